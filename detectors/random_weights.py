"""What gives randomly initialised detectors outputs that vary: pictures, and statistics of them."""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["learn_statistics", "made_pictures"]


def made_pictures(seed: int, size: int) -> Tensor:
    """(4, 3, size, size) float, 0..255: patches of all sizes, equally strong, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(4, 3, size, size)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        grey = torch.randn(4, 1, cells, cells, generator=generator)
        colour = torch.randn(4, 3, cells, cells, generator=generator) * 0.3
        total += F.interpolate(grey + colour, (size, size), mode="nearest")
    return (total * 40 + 115).clamp(0, 255)


def learn_statistics(network: nn.Module, run: Callable[[], object]) -> None:
    """Give batch norms the statistics of what one run shows them; they end in evaluation mode.

    Args:
        network: whose batch norms are set.
        run: calls it.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one batch, as they are
        norm.train()
    run()
    for norm, momentum in zip(norms, momenta):
        assert isinstance(norm.running_var, Tensor)
        # A channel that is silent here would drown all others on pictures where it is not.
        norm.running_var.clamp_(min=float(norm.running_var.mean()))
        norm.momentum = momentum
        norm.eval()
