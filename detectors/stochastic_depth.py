"""Stochastic depth (arXiv:1603.09382): residual branches left out in training, deeper ones oftener.

B images, N blocks. What is drawn is a fixed hash of each image's key: the same in any stage, on any
replica, after any resume.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.sampling import random_numbers

__all__ = ["draw_blocks"]

STREAM = 2  # of `random_numbers`; 0 and 1 are Faster R-CNN's samples


def draw_blocks(keys: Tensor, num_blocks: int, survival: float) -> Tensor:
    """What the residual branch of each block is multiplied by.

    Block i of N survives with probability 1 - (1 - survival) i / N (automl's EfficientNet), and
    then counts for 1 / that: its mean is 1.

    Args:
        keys: (B,) integers.
        num_blocks: N.
        survival: probability that a block behind the last would survive.

    Returns:
        (B, N) float32: 0, or 1 / probability.
    """
    place = torch.arange(num_blocks, dtype=torch.float32, device=keys.device)
    probability = 1 - (1 - survival) * place / num_blocks  # (N,)
    alive = random_numbers(keys, num_blocks, STREAM) < probability
    return torch.where(alive, 1 / probability, torch.zeros_like(probability))
