"""Which weights of a detector are averaged, and how fast.

n counts updates of the weights.
"""

from __future__ import annotations

import math
from typing import List

import torch
from torch import Tensor, nn

__all__ = ["averaged_names", "decay_over", "wide"]


def decay_over(decay: float, before: int, after: int) -> float:
    """What is left of an average of update `before` at update `after`: the product of the decays in
    between, each min(decay, (1 + n) / (10 + n)).
    """
    return math.prod(min(decay, (1 + n) / (10 + n)) for n in range(before + 1, after + 1))


def averaged_names(model: nn.Module) -> List[str]:
    """Of a model's state: its trained parameters, and its floating buffers."""
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    state = model.state_dict()
    return [name for name in state if name not in frozen and state[name].is_floating_point()]


def wide(tensor: Tensor) -> Tensor:
    """Half weights in float32: a decay near 1 moves less than their last digit."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
