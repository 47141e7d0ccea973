"""Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101): moments divided by 1 - beta ** t."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import torch


def update(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: Dict[str, torch.Tensor],
    values: Mapping[str, Any],
) -> None:
    """Change `weight` and `state` in place.

    Args:
        state: `Accl1` and `Accl2` (first and second moment) and `Step`; empty at first.
        values: lr, betas, eps, weight_decay, bias_correction, and whether the decay is `decoupled`
            from the gradient (AdamW) or part of it (Adam).
    """
    decay = values["weight_decay"]
    if decay and not values["decoupled"]:
        gradient = gradient.add(weight, alpha=decay)
    first, second = moments(weight, gradient, state, values)
    direction = first / second.sqrt_().add_(values["eps"])
    if decay and values["decoupled"]:
        direction.add_(weight, alpha=decay)
    weight.sub_(direction, alpha=values["lr"])


def moments(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: Dict[str, torch.Tensor],
    values: Mapping[str, Any],
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Both moments after this gradient, corrected if asked; tensors of their own."""
    if not state:
        state["Accl1"] = torch.zeros_like(weight)
        state["Accl2"] = torch.zeros_like(weight)
        state["Step"] = torch.zeros(())
    beta1, beta2 = values["betas"]
    first = state["Accl1"].mul_(beta1).add_(gradient, alpha=1 - beta1)
    second = state["Accl2"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    state["Step"] += 1
    if not values["bias_correction"]:
        return first.clone(), second.clone()
    step = int(state["Step"])
    return first / (1 - beta1**step), second / (1 - beta2**step)
