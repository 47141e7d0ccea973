"""Stochastic gradient descent in PopART's three arrangements.

g gradient, w weight, m momentum, d dampening, wd weight decay; v the velocity, zero at first:
    v = m * v + (1 - d) * (g + wd * w)
    w -= lr * v                          Nesterov: w -= lr * (g + wd * w + m * v)
Dampening scales the first gradient as well, unlike torch.optim.SGD.
"""

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
        state: `Accl1` (velocity), or `Accl` when `use_combined_accum`; empty at first.
        values: lr, momentum, dampening, weight_decay, nesterov, stateless, use_combined_accum.
    """
    decay = values["weight_decay"]
    if values["use_combined_accum"]:
        _update_combined(weight, gradient, state, values)
        return
    direction = gradient.add(weight, alpha=decay) if decay else gradient
    if not values["stateless"]:
        velocity = state.setdefault("Accl1", torch.zeros_like(weight))
        velocity.mul_(values["momentum"]).add_(direction, alpha=1 - values["dampening"])
        if values["nesterov"]:
            direction = direction.add(velocity, alpha=values["momentum"])
        else:
            direction = velocity
    weight.sub_(direction, alpha=values["lr"])


def _update_combined(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: Dict[str, torch.Tensor],
    values: Mapping[str, Any],
) -> None:
    """One tensor for accumulator and velocity: it is decayed at the end of a step, for the next.

    So a new momentum, dampening or weight decay reaches the old velocity one step later.
    """
    momentum, decay, kept = values["momentum"], values["weight_decay"], 1 - values["dampening"]
    if "Accl" not in state:
        state["Accl"] = weight * (kept * decay)
    velocity = state["Accl"]
    velocity.add_(gradient, alpha=kept)
    direction = velocity
    if values["nesterov"]:
        direction = gradient.add(weight, alpha=decay).add_(velocity, alpha=momentum)
    weight.sub_(direction, alpha=values["lr"])
    velocity.mul_(momentum).add_(weight, alpha=kept * decay)
