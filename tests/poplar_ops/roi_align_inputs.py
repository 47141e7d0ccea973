"""Maps and regions for tests of ROI-Align."""

from __future__ import annotations

from typing import Callable, Tuple

import torch
from torch import Tensor

Size = Tuple[int, int]
RoiAlign = Callable[[Tensor, Tensor, Size, float, int, bool], Tensor]


def random_rois(batch: int, regions: int, size: Size, scale: float, seed: int = 0) -> Tensor:
    """Regions of many sizes, some partly off a map of `size` cells; pixels."""
    source = torch.Generator().manual_seed(seed)
    height, width = size
    centre = torch.rand(batch, regions, 2, generator=source) * torch.tensor([width, height])
    extent = torch.exp(torch.rand(batch, regions, 2, generator=source) * 3.2) * 0.6
    return torch.cat([centre - extent / 2, centre + extent / 2], -1) / scale


def random_map(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of a function at x."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x, grad)[0]


CASES = [
    ((2, 5, 11, 17), (7, 7), 0, True),
    ((2, 5, 11, 17), (7, 7), 2, False),
    ((1, 16, 20, 9), (3, 5), 1, True),
    ((1, 33, 6, 6), (2, 14), 3, True),
    ((2, 17, 24, 31), (2, 2), 0, False),
    ((1, 3, 1, 8), (4, 3), 0, True),
    ((1, 2, 1, 1), (2, 2), 2, True),
]

MAP, ROIS = random_map(2, 3, 8, 9), random_rois(2, 4, (8, 9), 1.0)
