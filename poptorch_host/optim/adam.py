"""Adam and AdamW with PopTorch's attributes."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import torch

from .optimizer import NO_CLIP, Optimizer, Params

_VARIABLE = ("lr", "betas", "eps", "weight_decay", "loss_scaling", "max_grad_norm")
_OWN: Dict[str, Any] = {
    "loss_scaling": 1.0,
    "accum_type": torch.float32,
    "first_order_momentum_accum_type": torch.float32,
    "second_order_momentum_accum_type": torch.float32,
    "max_grad_norm": NO_CLIP,
}


class Adam(Optimizer, torch.optim.Adam):
    """torch.optim.Adam (weight decay inside the gradient) with loss scaling and clipping.

    Args:
        lr, betas, eps, weight_decay: as torch.
        amsgrad: only False.
        maximize, foreach, capturable, differentiable, fused: accepted, not read, as in PopTorch.
        accum_type, first_order_momentum_accum_type, second_order_momentum_accum_type:
            torch.float32 or torch.float16.

    Raises:
        ValueError: amsgrad.
    """

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        amsgrad: Optional[bool] = None,
        foreach: Optional[bool] = None,
        maximize: Optional[bool] = None,
        capturable: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        fused: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
    ) -> None:
        given = dict(locals())
        _refuse_amsgrad(amsgrad)
        torch.optim.Adam.__init__(
            self,
            params,
            lr=1e-3 if lr is None else lr,
            betas=(0.9, 0.999) if betas is None else betas,
            eps=1e-8 if eps is None else eps,
            weight_decay=0.0 if weight_decay is None else weight_decay,
        )
        self._keep(given, _OWN)
        self._set_variable(given, _VARIABLE)


class AdamW(Optimizer, torch.optim.AdamW):
    """torch.optim.AdamW (decoupled weight decay) with loss scaling and clipping.

    Args:
        bias_correction: PopTorch documents the flag, and up to 3.4 computes as if it were True;
            so does `host.configure(strict=True)`.

    The other arguments are those of `Adam`.

    Raises:
        ValueError: amsgrad.
    """

    bias_correction: bool

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        amsgrad: Optional[bool] = None,
        maximize: Optional[bool] = None,
        foreach: Optional[bool] = None,
        capturable: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        fused: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        bias_correction: Optional[bool] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
    ) -> None:
        given = dict(locals())
        _refuse_amsgrad(amsgrad)
        torch.optim.AdamW.__init__(
            self,
            params,
            lr=1e-3 if lr is None else lr,
            betas=(0.9, 0.999) if betas is None else betas,
            eps=1e-8 if eps is None else eps,
            weight_decay=1e-2 if weight_decay is None else weight_decay,
        )
        self._keep(given, {**_OWN, "bias_correction": True})
        self._set_variable(given, _VARIABLE)


def _refuse_amsgrad(amsgrad: Optional[bool]) -> None:
    if amsgrad:
        raise ValueError("Only non-amsgrad Adam/AdamW optimizers are supported.")
