"""Multiply-adds of the convolutions, what papers and model tables call FLOPs or MACs.

One forward at the smallest input that tells the pyramid's levels apart gives each convolution's
level; the rest is arithmetic, since "same" padding makes every map ceil(H / 2**l) x ceil(W / 2**l).
"""

from __future__ import annotations

import math
from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn

from detectors.models.efficientdet.network import EfficientDetNetwork

__all__ = ["count_multiply_adds"]


def count_multiply_adds(
    network: EfficientDetNetwork, image_size: Tuple[int, int], max_level: int
) -> int:
    """Multiply-adds of one image.

    Args:
        network: in evaluation mode, float32, with or without its batch norms folded.
        image_size: (height, width), pixels.
        max_level: the coarsest of its pyramid.
    """
    per_cell: Dict[int, int] = {}  # level -> multiply-adds of one cell; -1: one cell in all

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        height, width = output.shape[-2:]
        # twice as wide as high, so that a gate (1 x 1) is no map of the last level (1 x 2)
        level = -1 if width == height else max_level - int(math.log2(height))
        weight = module.weight
        assert isinstance(weight, Tensor)
        per_cell[level] = per_cell.get(level, 0) + weight.numel()

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(note) for module in convolutions]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, 2**max_level, 2 ** (max_level + 1)))
    finally:
        for handle in handles:
            handle.remove()
    height, width = image_size
    cells = {
        level: 1 if level < 0 else math.ceil(height / 2**level) * math.ceil(width / 2**level)
        for level in per_cell
    }
    return sum(cells[level] * count for level, count in per_cell.items())
