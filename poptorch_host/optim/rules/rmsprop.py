"""RMSprop as torch has it, and TensorFlow's variant of it."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import torch


def update(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: Dict[str, torch.Tensor],
    values: Mapping[str, Any],
) -> None:
    """Change `weight` and `state` in place.

    Args:
        state: `Accl1` (mean square), `Accl2` (mean, if centered), `Accl3` (momentum).
        values: lr, alpha, eps, weight_decay, momentum, centered, use_tf_variant. The variant has
            eps inside the root, a mean square of one at first, and lr inside the momentum.
    """
    alpha, eps, rate = values["alpha"], values["eps"], values["lr"]
    tensorflow = values["use_tf_variant"]
    if not state:
        state["Accl1"] = torch.ones_like(weight) if tensorflow else torch.zeros_like(weight)
        if values["centered"]:
            state["Accl2"] = torch.zeros_like(weight)
        state["Accl3"] = torch.zeros_like(weight)
    if values["weight_decay"]:
        gradient = gradient.add(weight, alpha=values["weight_decay"])
    square = state["Accl1"].mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
    if values["centered"]:
        mean = state["Accl2"].mul_(alpha).add_(gradient, alpha=1 - alpha)
        square = square.addcmul(mean, mean, value=-1)
    root = (square + eps).sqrt_() if tensorflow else square.sqrt().add_(eps)
    direction = gradient / root
    inside, outside = (rate, 1.0) if tensorflow else (1.0, rate)
    buffer = state["Accl3"].mul_(values["momentum"]).add_(direction, alpha=inside)
    weight.sub_(buffer, alpha=outside)
