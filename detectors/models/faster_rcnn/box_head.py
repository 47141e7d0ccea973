"""The second stage's last layers: class logits and box deltas of pooled regions.

R regions, C classes; background is logit C, the last. Deltas are of each class and in units of
their usual spread: `DELTA_STD`.
"""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn

__all__ = ["BoxHead", "from_units", "to_units"]

DELTA_STD = (0.1, 0.2)  # of shifts and of log scales; detectron2's weights 10, 10, 5, 5


def to_units(deltas: Tensor) -> Tensor:
    """(..., 4) deltas as the head predicts them."""
    return torch.cat([deltas[..., :2] / DELTA_STD[0], deltas[..., 2:] / DELTA_STD[1]], dim=-1)


def from_units(deltas: Tensor) -> Tensor:
    """(..., 4) deltas as `decode_boxes` takes them; the inverse of `to_units`."""
    return torch.cat([deltas[..., :2] * DELTA_STD[0], deltas[..., 2:] * DELTA_STD[1]], dim=-1)


class BoxHead(nn.Module):
    """Mean over each region, then two fully connected layers."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_logits = nn.Linear(channels, num_classes + 1)
        self.box_deltas = nn.Linear(channels, num_classes * 4)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.normal_(self.box_deltas.weight, std=0.001)
        nn.init.zeros_(self.class_logits.bias)
        nn.init.zeros_(self.box_deltas.bias)

    def forward(self, regions: Tensor) -> Tuple[Tensor, Tensor]:
        """Classify and refine regions.

        Args:
            regions: (R, channels, h, w), any float type.

        Returns:
            class_logits: (R, C + 1) float32.
            box_deltas: (R, C, 4) float32, in units.
        """
        x = regions.to(self.class_logits.weight.dtype).mean((2, 3))
        deltas = self.box_deltas(x).reshape(-1, self.num_classes, 4)
        return self.class_logits(x).float(), deltas.float()
