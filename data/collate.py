"""Samples into batches of fixed shape, and detections back to pixels on disk.

B images, G boxes after padding, D detections. What only the host needs travels in `Placement`
beside the batch and never enters the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from data.sample import Sample
from data.transforms import MEAN_COLOUR, letterbox

__all__ = ["Batch", "Placement", "collate", "place", "to_original"]


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input."""

    name: str
    """`Sample.name`."""
    image_id: int
    """`Sample.image_id`."""
    original_size: Tuple[int, int]
    """(height, width) on disk, after EXIF rotation."""
    scale: float
    """Network pixels per pixel on disk; the picture starts at the input's top left corner."""


class Batch(NamedTuple):
    """The positional tensors of one training step, and the placements of its pictures."""

    images: Tensor
    """(B, 3, H, W) uint8."""
    boxes: Tensor
    """(B, G, 4) float32, xyxy pixels of the network's input; zeros where padded."""
    labels: Tensor
    """(B, G) int64; -1 where padded."""
    placements: List[Placement]
    """One per picture."""


def place(
    sample: Sample,
    size: Tuple[int, int],
    *,
    resample: str = "pil",
    pad: Tuple[int, int, int] = MEAN_COLOUR,
) -> Tuple[Tensor, Placement]:
    """`letterbox` a sample; returns (3, H, W) uint8 and its placement."""
    image, scale = letterbox(sample.image, size, resample=resample, pad=pad)
    return image, Placement(sample.name, sample.image_id, sample.original_size, scale)


def collate(
    samples: Sequence[Sample],
    size: Tuple[int, int],
    max_boxes: int,
    *,
    resample: str = "pil",
    pad: Tuple[int, int, int] = MEAN_COLOUR,
) -> Batch:
    """Letterbox samples into one batch, their boxes scaled with them and padded to `max_boxes`.

    Raises:
        ValueError: a sample has more than `max_boxes` boxes: cutting some would train on wrong
            labels.
    """
    crowded = [sample for sample in samples if len(sample.boxes) > max_boxes]
    if crowded:
        raise ValueError(
            f"max_boxes is {max_boxes}, but '{crowded[0].name}' has {len(crowded[0].boxes)} boxes:"
            " raise max_boxes"
        )
    images, placements = zip(*(place(s, size, resample=resample, pad=pad) for s in samples))
    boxes = torch.zeros(len(samples), max_boxes, 4)
    labels = torch.full((len(samples), max_boxes), -1, dtype=torch.int64)
    for index, (sample, placement) in enumerate(zip(samples, placements)):
        count = len(sample.boxes)
        boxes[index, :count] = sample.boxes * placement.scale
        labels[index, :count] = sample.labels
    return Batch(torch.stack(images), boxes, labels, list(placements))


def to_original(boxes: Tensor, placement: Placement) -> Tensor:
    """Boxes of the network's input in pixels of the picture on disk, clipped to it.

    Args:
        boxes: (..., 4) float, xyxy pixels of the network's input.
        placement: of the picture that they were found in.

    Returns:
        (..., 4) float32, xyxy pixels, 0 <= x <= width and 0 <= y <= height.
    """
    height, width = placement.original_size
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    return torch.minimum((boxes.float() / placement.scale).clamp(min=0), limit)
