"""One picture with its boxes: what every dataset yields.

G ground-truth boxes (0 where nobody labelled the picture); H, W pixels of the picture on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Tuple

import torch
from torch import Tensor

__all__ = ["Sample", "no_boxes", "no_labels"]


def no_boxes() -> Tensor:
    """(0, 4) float32."""
    return torch.zeros(0, 4)


def no_labels() -> Tensor:
    """(0,) int64."""
    return torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class Sample:
    """A picture as it is on disk, upright and in RGB."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    name: str
    """Path below the folder that was asked for, parts joined by '/'; unique within a dataset."""
    image_id: int
    """The dataset's own number for the picture, or its place in the list, from 1."""
    boxes: Tensor = field(default_factory=no_boxes)
    """(G, 4) float32, xyxy pixels of this image."""
    labels: Tensor = field(default_factory=no_labels)
    """(G,) int64 in 0..C-1; -1 marks a region to ignore."""

    @property
    def original_size(self) -> Tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])
