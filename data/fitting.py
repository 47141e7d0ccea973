"""A sample, boxes and all, into the network's fixed input.

H, W pixels of the network's input; h, w of the picture; G boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor

from data.collate import Placed, Placement
from data.sample import Sample
from data.transforms import MEAN_COLOUR, RESAMPLES

__all__ = ["FITS", "Fit", "Target", "fit_sample", "put"]

FITS = ("letterbox", "squash", "short_edge")
MIN_SIDE = 1.0  # network pixels: of what a cut leaves narrower, nothing can be recognised


@dataclass(frozen=True)
class Fit:
    """How a picture of any size comes into the network's input."""

    size: Tuple[int, int]
    """(H, W)."""
    how: str = "letterbox"
    """letterbox: as large as fits, aspect kept. squash: to exactly H x W (Graphcore's). short_edge:
    the short side becomes one of `short_edges`, the long one at most `long_edge` (Detectron2's).
    """
    short_edges: Tuple[int, ...] = ()
    """Network pixels; training draws one, evaluation takes the last."""
    long_edge: int = 0
    """Network pixels."""
    resample: str = "pil"
    """Key of `data.transforms.RESAMPLES`."""
    pad: Tuple[int, int, int] = MEAN_COLOUR
    """Colour of the rest, RGB 0..255."""

    def __post_init__(self) -> None:
        if self.how not in FITS:
            raise ValueError(f"image.fit must be one of {', '.join(FITS)}, got '{self.how}'")
        if self.resample not in RESAMPLES:
            raise ValueError(f"resample must be one of {sorted(RESAMPLES)}, got '{self.resample}'")
        if self.how != "short_edge":
            return
        if not self.short_edges or self.long_edge < max(self.short_edges):
            raise ValueError(
                "image.fit short_edge needs short_edges, and a long_edge not below them, got"
                f" {list(self.short_edges)} and {self.long_edge}"
            )
        if self.long_edge > min(self.size):
            raise ValueError(
                f"image.long_edge {self.long_edge} does not fit into the input of"
                f" {self.size[0]}x{self.size[1]}"
            )

    def target(
        self, size: Tuple[int, int], *, edge: Optional[float] = None, factor: float = 1.0
    ) -> Target:
        """How large a picture becomes.

        Args:
            size: (h, w).
            edge: 0 <= edge < 1, which of the short edges; None: the last.
            factor: on top of it.
        """
        height, width = size
        if self.how == "squash":
            scales = (self.size[0] / height * factor, self.size[1] / width * factor)
            rounded = (round(self.size[0] * factor), round(self.size[1] * factor))
            return Target((max(1, rounded[0]), max(1, rounded[1])), *scales)
        if self.how == "letterbox":
            scale = min(self.size[0] / height, self.size[1] / width) * factor
        else:
            place = len(self.short_edges) - 1 if edge is None else int(edge * len(self.short_edges))
            short, long = sorted(size)
            scale = min(self.short_edges[place] / short, self.long_edge / long) * factor
        return Target((max(1, int(height * scale)), max(1, int(width * scale))), scale, scale)


@dataclass(frozen=True)
class Target:
    """A picture's size in the network's input."""

    size: Tuple[int, int]
    """(height, width), pixels; truncated, as `letterbox` does."""
    down: float
    """Network pixels per pixel of the picture, downwards."""
    along: float
    """Sideways."""


def fit_sample(sample: Sample, fit: Fit, key: int = 0) -> Placed:
    """For evaluation: nothing is drawn, the picture lies at the top left."""
    return put(sample, fit, fit.target(sample.original_size), key=key)


def put(
    sample: Sample,
    fit: Fit,
    target: Target,
    *,
    offset: Tuple[int, int] = (0, 0),
    flip: bool = False,
    key: int = 0,
) -> Placed:
    """Resize, mirror and place a picture on the canvas, and its boxes with it.

    Args:
        sample: on disk.
        fit: the canvas.
        target: how large.
        offset: (x, y) of its top left corner; negative: it is cut.
        flip: mirror it left to right.
        key: goes into the result.

    Returns:
        Boxes are clipped to the canvas. One that a cut narrows to less than a pixel, or of which
        nothing is left, is left out and counted in `Placement.cut`.
    """
    image = sample.image
    if target.size != sample.original_size:
        image = RESAMPLES[fit.resample](image, target.size)
    if flip:
        image = image.flip(-1)
    canvas = torch.tensor(fit.pad, dtype=torch.uint8)[:, None, None].repeat(1, *fit.size)
    paste(canvas, image, offset)
    boxes, kept = place_boxes(sample.boxes, sample.original_size, fit.size, target, offset, flip)
    placement = Placement(
        sample.name,
        sample.image_id,
        sample.original_size,
        target.down,
        stretch=target.along / target.down,
        offset=(float(offset[0]), float(offset[1])),
        flipped=flip,
        cut=int((~kept).sum()),
    )
    return Placed(canvas, boxes[kept], sample.labels[kept], key, placement)


def paste(canvas: Tensor, image: Tensor, offset: Tuple[int, int]) -> None:
    """Write the part of an image that the canvas shows."""
    (x, y), (height, width) = offset, image.shape[1:]
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + height, canvas.shape[1]), min(x + width, canvas.shape[2])
    if top < bottom and left < right:
        canvas[:, top:bottom, left:right] = image[:, top - y : bottom - y, left - x : right - x]


def place_boxes(
    boxes: Tensor,
    original: Tuple[int, int],
    size: Tuple[int, int],
    target: Target,
    offset: Tuple[int, int],
    flip: bool,
) -> Tuple[Tensor, Tensor]:
    """Boxes of the picture in the network's input.

    Args:
        boxes: (G, 4) float32, xyxy pixels of the picture.
        original: (h, w).
        size: (H, W).
        target, offset, flip: see `put`.

    Returns:
        (G, 4) float32, clipped to the canvas; (G,) bool, False for those that a cut took away, or
        float32: in it a box of a thousandth of a pixel may end where it begins.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    if flip:
        x1, x2 = original[1] - x2, original[1] - x1
    scale = torch.tensor([target.along, target.down, target.along, target.down])
    placed = torch.stack([x1, y1, x2, y2], dim=-1) * scale
    placed = placed + torch.tensor(offset * 2, dtype=torch.float32)
    limit = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    clipped = torch.minimum(placed.clamp(min=0), limit)
    sides, before = clipped[:, 2:] - clipped[:, :2], placed[:, 2:] - placed[:, :2]
    gone = ((sides < before) & (sides < MIN_SIDE)) | (sides <= 0)  # (G, 2)
    return clipped, ~gone.any(dim=1)
