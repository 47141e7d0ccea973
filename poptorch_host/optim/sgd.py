"""Stochastic gradient descent with PopTorch's attributes."""

from __future__ import annotations

from typing import Any, Optional

import torch

from .optimizer import NO_CLIP, Optimizer, Params


class SGD(Optimizer, torch.optim.SGD):
    """torch.optim.SGD with loss scaling, accumulation types and gradient clipping.

    Args:
        lr, momentum, dampening, weight_decay, nesterov: as torch.
        maximize, foreach, differentiable, fused: accepted, not read, as in PopTorch.
        loss_scaling: factor of the loss that is differentiated.
        velocity_scaling: scale of the velocity, only with `use_combined_accum`.
        use_combined_accum: one tensor for accumulator and velocity.
        accum_type, velocity_accum_type: torch.float32 or torch.float16.
        max_grad_norm: bound of the global norm of the gradient.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        momentum: Optional[float] = None,
        dampening: Optional[float] = None,
        weight_decay: Optional[float] = None,
        nesterov: Optional[bool] = None,
        maximize: Optional[bool] = None,
        foreach: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        velocity_scaling: Optional[float] = None,
        use_combined_accum: bool = False,
        accum_type: Optional[torch.dtype] = None,
        velocity_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
        fused: Optional[bool] = None,
    ) -> None:
        given = dict(locals())
        torch.optim.SGD.__init__(
            self,
            params,
            lr=lr,
            momentum=momentum or 0.0,
            dampening=dampening or 0.0,
            weight_decay=weight_decay or 0.0,
            nesterov=bool(nesterov),
        )
        own = {
            "loss_scaling": 1.0,
            "velocity_scaling": 1.0 if loss_scaling is None else loss_scaling,
            "use_combined_accum": False,
            "accum_type": torch.float32,
            "velocity_accum_type": torch.float32,
            "max_grad_norm": NO_CLIP,
        }
        self._keep(given, own)
        self._set_variable(
            given,
            (
                "lr",
                "momentum",
                "dampening",
                "weight_decay",
                "nesterov",
                "loss_scaling",
                "velocity_scaling",
                "max_grad_norm",
            ),
        )

    use_combined_accum: bool
    velocity_scaling: float
    accum_type: Any
    velocity_accum_type: Any
    max_grad_norm: float
