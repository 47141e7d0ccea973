"""Anchors: the fixed boxes whose shifts and sizes a head predicts.

EfficientDet's, as automl: N anchors of a whole pyramid, ordered level fine to coarse, row, column,
octave, aspect. Faster R-CNN's: the anchors of one cell, repeated over one map. Boxes are xyxy
pixels.
"""

from __future__ import annotations

import math
from typing import Dict, Sequence, Tuple, Union

import torch
from torch import Tensor

from detectors.layers import Float32Buffers

__all__ = [
    "ASPECTS",
    "AnchorGrid",
    "exact_cell",
    "grid_anchors",
    "level_anchors",
    "level_size",
    "pyramid_anchors",
    "rounded_cell",
]

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
    scale: Union[float, Sequence[float]],
    octaves: int = 3,
    aspects: Sequence[Tuple[float, float]] = ASPECTS["exact"],
) -> Tensor:
    """Anchors of several levels, (N, 4) float32.

    Arguments as `level_anchors`; `scale` is one number for all levels, or one for each.

    Raises:
        ValueError: another number of scales than of levels.
    """
    scales = [scale] * len(levels) if isinstance(scale, (int, float)) else scale
    if len(scales) != len(levels):
        raise ValueError(f"scale must be one number or {len(levels)}, got {len(scales)}")
    return torch.cat(
        [
            level_anchors(image_size, level, own, octaves, aspects)
            for level, own in zip(levels, scales)
        ]
    )


def rounded_cell(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors of the top left cell as py-faster-rcnn made them: whole pixels, ratio by ratio.

    A 16 px square becomes round(sqrt(256 / ratio)) px wide, is centred in the cell and grows. What
    was a box of inclusive pixels (0, 0, 15, 15) is here (0, 0, 16, 16).

    Args:
        sizes: roots of the areas before rounding, pixels.
        ratios: height / width.

    Returns:
        (len(ratios) * len(sizes), 4) float32.
    """
    anchors = []
    for ratio in ratios:
        width = round(math.sqrt(int(256 / ratio)))
        height = round(width * ratio)
        for size in sizes:
            half_width, half_height = width * size / 32, height * size / 32
            anchors.append([8 - half_width, 8 - half_height, 8 + half_width, 8 + half_height])
    return torch.tensor(anchors)


def exact_cell(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors of the top left cell as detectron2 makes them: centred on its corner, size by size.

    Args:
        sizes: roots of the areas, pixels.
        ratios: height / width.

    Returns:
        (len(sizes) * len(ratios), 4) float32.
    """
    anchors = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(anchors)


def grid_anchors(cell: Tensor, cells: Tuple[int, int], stride: int) -> Tensor:
    """Repeat the anchors of the top left cell over a map.

    Args:
        cell: (A, 4).
        cells: of the map, (height, width).
        stride: pixels from one to the next.

    Returns:
        (H * W * A, 4) float32, ordered row, column, anchor; not clipped to the image.
    """
    rows, columns = cells
    y = (torch.arange(rows) * stride)[:, None].expand(rows, columns)
    x = (torch.arange(columns) * stride).expand(rows, columns)
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # (H * W, 1, 4)
    return (shifts + cell).reshape(-1, 4).float()


class AnchorGrid(Float32Buffers):
    """Anchors as a buffer that stays float32 when the model becomes half.

    In half a coordinate over 1024 has steps of a whole pixel.
    """

    boxes: Tensor

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.register_buffer("boxes", boxes.float(), persistent=False)

    def forward(self) -> Tensor:
        """(N, 4) float32, xyxy pixels."""
        return self.boxes
