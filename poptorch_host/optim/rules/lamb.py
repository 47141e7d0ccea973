"""LAMB (arXiv:1904.00962): AdamW's direction, as long as the weight it changes."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import torch

from .adam import moments


def update(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: Dict[str, torch.Tensor],
    values: Mapping[str, Any],
) -> None:
    """Change `weight` and `state` in place.

    Args:
        state: as Adam's.
        values: lr, betas, eps, weight_decay, bias_correction, max_weight_norm.
    """
    first, second = moments(weight, gradient, state, values)
    direction = first / second.sqrt_().add_(values["eps"])
    direction.add_(weight, alpha=values["weight_decay"])
    weight_norm = weight.norm().clamp(max=values["max_weight_norm"])
    norm = direction.norm()
    usable = (weight_norm > 0) & (norm > 0)
    ratio = torch.where(usable, weight_norm / norm, torch.ones_like(norm))
    weight.sub_(direction.mul_(ratio), alpha=values["lr"])
