"""RMSprop with PopTorch's attributes."""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch

from .optimizer import Optimizer, Params
from .rules.rmsprop import update


class RMSprop(Optimizer, torch.optim.RMSprop):
    """torch.optim.RMSprop with loss scaling and TensorFlow's variant.

    Args:
        lr, alpha, eps, weight_decay, momentum, centered: as torch.
        foreach, maximize, differentiable: accepted, not read, as in PopTorch.
        use_tf_variant: eps inside the root, state from ones, lr inside the momentum.
    """

    use_tf_variant: bool

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        alpha: Optional[float] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        momentum: Optional[float] = None,
        centered: Optional[bool] = None,
        foreach: Optional[bool] = None,
        maximize: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        use_tf_variant: Optional[bool] = None,
    ) -> None:
        given = dict(locals())
        torch.optim.RMSprop.__init__(
            self,
            params,
            lr=1e-2 if lr is None else lr,
            alpha=0.99 if alpha is None else alpha,
            eps=1e-8 if eps is None else eps,
            weight_decay=0.0 if weight_decay is None else weight_decay,
            momentum=0.0 if momentum is None else momentum,
            centered=bool(centered),
        )
        own = {
            "loss_scaling": 1.0,
            "accum_type": torch.float32,
            "first_order_momentum_accum_type": torch.float32,
            "second_order_momentum_accum_type": torch.float32,
            "use_tf_variant": False,
        }
        self._keep(given, own)
        self._set_variable(
            given, ("lr", "alpha", "eps", "weight_decay", "momentum", "loss_scaling")
        )

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Any:
        """One update on the host, also of TensorFlow's variant."""
        if not self.use_tf_variant:
            return super().step(closure)
        loss: Optional[float] = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            values = {**group, "use_tf_variant": True}
            for weight in group["params"]:
                if weight.grad is not None:
                    update(weight, weight.grad, self.state[weight], values)
        return loss
