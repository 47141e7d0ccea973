"""Update rules: how each kind of optimizer changes one weight, in float32 tensors."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

import torch

from . import adam, lamb, rmsprop, sgd

State = Dict[str, torch.Tensor]
Rule = Callable[[torch.Tensor, torch.Tensor, State, Mapping[str, Any]], None]
"""`rule(weight, gradient, state, values)` changes weight and state in place."""

RULES: Dict[str, Rule] = {
    "SGD": sgd.update,
    "Adam": adam.update,
    "AdamW": adam.update,
    "RMSprop": rmsprop.update,
    "LAMB": lamb.update,
}

__all__ = ["RULES", "Rule", "State"]
