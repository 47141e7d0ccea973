"""Boxes as tensors: area, IoU, clipping, and deltas relative to anchors.

Boxes are xyxy in continuous pixels, float32, x1 < x2, no "+1" anywhere. Deltas are
(dx, dy, dw, dh).
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import torch
from torch import Tensor

__all__ = [
    "SCALE_CLAMP",
    "box_area",
    "box_intersection",
    "box_iou",
    "clip_boxes",
    "decode_boxes",
    "encode_boxes",
    "encode_where",
]

SCALE_CLAMP = math.log(1000 / 16)  # a 16 px box may grow to 1000 px, no further


def box_area(boxes: Tensor) -> Tensor:
    """Area in square pixels: (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of every pair: (..., N, 4) and (..., M, 4) -> (..., N, M) square pixels."""
    left, top, right, bottom = a[..., None, :].unbind(dim=-1)  # (..., N, 1)
    # Each coordinate in one piece: rows of M numbers are what a CPU's vectors take.
    others = b.movedim(-1, 0).contiguous()[..., None, :]  # (4, ..., 1, M)
    width = torch.minimum(right, others[2]).sub_(torch.maximum(left, others[0]))  # (..., N, M)
    height = torch.minimum(bottom, others[3]).sub_(torch.maximum(top, others[1]))
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair.

    Args:
        a: (..., N, 4) xyxy.
        b: (..., M, 4) xyxy.

    Returns:
        (..., N, M) in 0..1; 0 where both boxes have no area.
    """
    intersection = box_intersection(a, b)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


def clip_boxes(boxes: Tensor, size: Tuple[int, int]) -> Tensor:
    """Move corners outside an image of `size` (height, width) onto its edge; (..., 4) both."""
    height, width = size
    return torch.stack(
        [
            boxes[..., 0].clamp(0, width),
            boxes[..., 1].clamp(0, height),
            boxes[..., 2].clamp(0, width),
            boxes[..., 3].clamp(0, height),
        ],
        dim=-1,
    )


def decode_boxes(deltas: Tensor, anchors: Tensor, max_log_scale: Optional[float] = None) -> Tensor:
    """Move and resize anchors by predicted deltas; the inverse of `encode_boxes`.

    Faster R-CNN (arXiv:1506.01497), eq. 2 solved for the box.

    Args:
        deltas: (..., N, 4) float32, (dx, dy, dw, dh); shifts in anchor sizes, log scales.
        anchors: (..., N, 4) float32, xyxy pixels.
        max_log_scale: limit of dw and dh, such as `SCALE_CLAMP`; None = no limit, as automl.

    Returns:
        (..., N, 4) float32, xyxy pixels, not clipped to the image.
    """
    size = anchors[..., 2:] - anchors[..., :2]  # (..., N, 2) w, h
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2
    centre = centre + deltas[..., :2] * size
    log_scale = deltas[..., 2:]
    if max_log_scale is not None:
        log_scale = log_scale.clamp(max=max_log_scale)
    half = size * log_scale.exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas that turn anchors into boxes: Faster R-CNN, eq. 2, unit weights.

    Args:
        boxes: (..., N, 4) xyxy pixels, with area.
        anchors: (..., N, 4) xyxy pixels, with area.

    Returns:
        (..., N, 4), (dx, dy, dw, dh).
    """
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    size = boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    return torch.cat([shift / anchor_size, (size / anchor_size).log()], dim=-1)


def encode_where(positive: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """`encode_boxes` of positive rows, 0 elsewhere: padding has no size to divide by.

    Args:
        positive: (..., N) bool.
        boxes: (..., N, 4) xyxy pixels, with area where positive.
        anchors: (..., N, 4) xyxy pixels, with area where positive.

    Returns:
        (..., N, 4), (dx, dy, dw, dh).
    """
    unit = torch.cat([torch.zeros_like(boxes[..., :2]), torch.ones_like(boxes[..., 2:])], dim=-1)
    chosen = positive[..., None]
    return encode_boxes(torch.where(chosen, boxes, unit), torch.where(chosen, anchors, unit))
