"""Samples into batches of fixed shape, and detections back to pixels on disk.

B images, G boxes after padding, D detections. What only the host needs travels in `Placement`
beside the batch and never enters the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor

from data.sample import Sample
from data.transforms import MEAN_COLOUR, letterbox

__all__ = ["Batch", "Placed", "Placement", "collate", "place", "to_original"]


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input."""

    name: str
    """`Sample.name`; of a mosaic the names of its pictures, joined by ' + '."""
    image_id: int
    """`Sample.image_id`; -1 of a mosaic (`data.mosaic`), which no picture on disk is."""
    original_size: Tuple[int, int]
    """(height, width) on disk, after EXIF rotation."""
    scale: float
    """Network pixels per pixel on disk, downwards; and sideways, unless `stretch` is not 1."""
    stretch: float = 1.0
    """Sideways scale over downwards scale: the aspect ratio was changed by this."""
    offset: Tuple[float, float] = (0.0, 0.0)
    """(x, y) of the picture's top left corner in the network's input; negative where it is cut."""
    flipped: bool = False
    """Whether the picture was mirrored, left to right, before it was placed."""
    cut: int = 0
    """Boxes of which nothing was left in the network's input."""
    instead_of: str = ""
    """Name of a picture that could not be read, in whose place this one came."""


class Placed(NamedTuple):
    """One picture in the network's input; what `collate` takes."""

    image: Tensor
    """(3, H, W) uint8."""
    boxes: Tensor
    """(G, 4) float32, xyxy pixels of the network's input, within it."""
    labels: Tensor
    """(G,) int64; -1 marks a region to ignore."""
    key: int
    """What everything random about this picture in the graph depends on; 31 bits."""
    placement: Placement
    """The way back."""


class Batch(NamedTuple):
    """The positional tensors of one training step, and what stays on the host."""

    images: Tensor
    """(B, 3, H, W) uint8."""
    boxes: Tensor
    """(B, G, 4) float32, xyxy pixels of the network's input; zeros where padded."""
    labels: Tensor
    """(B, G) int32; -1 with a zero box where padded, -1 with a real box where ignored."""
    keys: Tensor
    """(B,) int32."""
    placements: List[Placement]
    """One per picture."""
    overflow: int
    """Boxes beyond G, left out: the smallest of their pictures."""

    @property
    def tensors(self) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a training module's forward takes."""
        return self.images, self.boxes, self.labels, self.keys

    def to(self, device: Union[str, torch.device]) -> Batch:
        """The same with its tensors on a device; Lightning moves a batch by this."""
        images, boxes, labels, keys = (tensor.to(device) for tensor in self.tensors)
        return self._replace(images=images, boxes=boxes, labels=labels, keys=keys)


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


def collate(items: Sequence[Placed], max_boxes: int) -> Batch:
    """Stack pictures; their boxes are padded to `max_boxes`.

    Where a picture has more, the smallest are left out and counted in `Batch.overflow`, regions to
    ignore first: `Annotations.overflow` says beforehand whether that happens.
    """
    boxes = torch.zeros(len(items), max_boxes, 4)
    labels = torch.full((len(items), max_boxes), -1, dtype=torch.int32)
    overflow = 0
    for row, item in enumerate(items):
        kept = largest(item.boxes, item.labels, max_boxes)
        overflow += len(item.boxes) - len(kept)
        boxes[row, : len(kept)] = item.boxes[kept]
        labels[row, : len(kept)] = item.labels[kept].int()
    return Batch(
        torch.stack([item.image for item in items]),
        boxes,
        labels,
        torch.tensor([item.key for item in items], dtype=torch.int32),
        [item.placement for item in items],
        overflow,
    )


def largest(boxes: Tensor, labels: Tensor, count: int) -> Tensor:
    """Rows of at most `count` boxes in their order: real ones before ignored ones, then by area."""
    if len(boxes) <= count:
        return torch.arange(len(boxes))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).double()
    worth = area + (labels >= 0) * (area.max() + 1)
    return torch.sort(torch.argsort(worth, descending=True, stable=True)[:count]).values


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
    boxes = boxes.float()
    if placement.offset != (0.0, 0.0):
        boxes = boxes - torch.tensor(placement.offset * 2)
    boxes = boxes / placement.scale
    if placement.stretch != 1.0:
        boxes = boxes / torch.tensor([placement.stretch, 1.0, placement.stretch, 1.0])
    if placement.flipped:
        x1, y1, x2, y2 = boxes.unbind(-1)
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
    return torch.minimum(boxes.clamp(min=0), limit)
