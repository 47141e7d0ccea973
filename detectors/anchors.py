"""Anchors: the fixed boxes whose shifts and sizes a head predicts (EfficientDet's, as automl).

N anchors of a whole pyramid, ordered level fine to coarse, row, column, octave, aspect. Boxes are
xyxy pixels.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Sequence, Tuple

import torch
from torch import Tensor, nn

__all__ = ["ASPECTS", "AnchorGrid", "level_anchors", "level_size", "pyramid_anchors"]

ROOT_2 = math.sqrt(2)

ASPECTS: Dict[str, Tuple[Tuple[float, float], ...]] = {
    "exact": ((1.0, 1.0), (ROOT_2, 1 / ROOT_2), (1 / ROOT_2, ROOT_2)),
    "rounded": ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
}
"""Form -> (width, height) of the anchors of a cell, in base sizes: square, wide, tall."""


def level_size(image_size: Tuple[int, int], level: int) -> Tuple[int, int]:
    """Cells (height, width) of a pyramid level: pixels halved `level` times, rounded up."""
    height, width = image_size
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def level_anchors(
    image_size: Tuple[int, int],
    level: int,
    scale: float,
    octaves: int,
    aspects: Sequence[Tuple[float, float]],
) -> Tensor:
    """Anchors of one level.

    Args:
        image_size: pixels (height, width) of the network input.
        level: the map has `level_size(image_size, level)` cells.
        scale: side of the smallest square anchor, in strides.
        octaves: sizes for each doubling.
        aspects: (width, height) factors.

    Returns:
        (H * W * octaves * len(aspects), 4) float32, not clipped to the image.
    """
    rows, columns = level_size(image_size, level)
    stride_y, stride_x = image_size[0] / rows, image_size[1] / columns
    sizes = torch.tensor(
        [
            (
                scale * stride_x * 2 ** (octave / octaves) * width,
                scale * stride_y * 2 ** (octave / octaves) * height,
            )
            for octave in range(octaves)
            for width, height in aspects
        ],
        dtype=torch.float64,
    )  # (A, 2) w, h
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride_y
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride_x
    centres = torch.stack(
        [x.expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1
    ).reshape(-1, 1, 2)  # (H * W, 1, 2)
    boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)  # (H * W, A, 4)
    return boxes.reshape(-1, 4).float()


def pyramid_anchors(
    image_size: Tuple[int, int],
    levels: Sequence[int],
    scale: float,
    octaves: int = 3,
    aspects: Sequence[Tuple[float, float]] = ASPECTS["exact"],
) -> Tensor:
    """Anchors of several levels, (N, 4) float32; arguments as `level_anchors`."""
    return torch.cat(
        [level_anchors(image_size, level, scale, octaves, aspects) for level in levels]
    )


class AnchorGrid(nn.Module):
    """Anchors as a buffer that stays float32 when the model becomes half.

    In half a coordinate over 1024 has steps of a whole pixel.
    """

    boxes: Tensor

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.register_buffer("boxes", boxes.float(), persistent=False)

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> AnchorGrid:
        boxes = self.boxes
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        if self.boxes.dtype != torch.float32:
            self.boxes = boxes.to(self.boxes.device)
        return self

    def forward(self) -> Tensor:
        """(N, 4) float32, xyxy pixels."""
        return self.boxes
