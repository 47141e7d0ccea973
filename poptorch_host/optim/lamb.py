"""LAMB: Adam's direction with a step per tensor in proportion to its norm (arXiv:1904.00962)."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

import torch

from .optimizer import Optimizer, Params


class LAMB(Optimizer, torch.optim.Optimizer):
    """Layer-wise adaptive moments.

    Args:
        bias_correction: divide the moments by 1 - beta**t.
        max_weight_norm: bound of the weight norm in the trust ratio.
        accum_type, first_order_momentum_accum_type, second_order_momentum_accum_type:
            torch.float32 or torch.float16.
    """

    bias_correction: bool

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        bias_correction: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        max_weight_norm: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
    ) -> None:
        given = dict(locals())
        beta1, beta2 = (0.9, 0.999) if betas is None else betas
        defaults = {
            "lr": 1e-3 if lr is None else lr,
            "eps": 1e-8 if eps is None else eps,
            "weight_decay": 1e-2 if weight_decay is None else weight_decay,
            "max_weight_norm": 65500.0 if max_weight_norm is None else max_weight_norm,
        }
        if not 0 <= beta1 < 1 or not 0 <= beta2 < 1:
            raise ValueError(f"Invalid betas: expected two values in [0, 1), got {(beta1, beta2)}")
        for name, value in defaults.items():
            if not value >= 0:
                raise ValueError(f"Invalid {name}: expected at least 0, got {value}")
        torch.optim.Optimizer.__init__(self, params, {**defaults, "betas": (beta1, beta2)})
        own = {
            "bias_correction": True,
            "loss_scaling": 1.0,
            "accum_type": torch.float32,
            "first_order_momentum_accum_type": torch.float32,
            "second_order_momentum_accum_type": torch.float32,
        }
        self._keep(given, own)
        self._set_variable(
            given, ("lr", "betas", "eps", "weight_decay", "loss_scaling", "max_weight_norm")
        )

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]
        """One update on the host: w -= lr * min(|w|, max_weight_norm) / |r| * r."""
        loss: Optional[float] = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(weight)
                    state["exp_avg_sq"] = torch.zeros_like(weight)
                state["step"] += 1
                first = state["exp_avg"].mul_(beta1).add_(weight.grad, alpha=1 - beta1)
                second = state["exp_avg_sq"].mul_(beta2)
                second.addcmul_(weight.grad, weight.grad, value=1 - beta2)
                if self.bias_correction:
                    first = first / (1 - beta1 ** state["step"])
                    second = second / (1 - beta2 ** state["step"])
                direction = first / (second.sqrt() + group["eps"]) + group["weight_decay"] * weight
                weight_norm = weight.norm().clamp(max=group["max_weight_norm"])
                ratio = weight_norm / direction.norm()
                usable = (weight_norm > 0) & (direction.norm() > 0)
                weight.sub_(direction * torch.where(usable, ratio, 1.0) * group["lr"])
        return loss
