"""Which box each anchor belongs to, and whether it counts as object, background or neither.

B images, N anchors or proposals, G boxes after padding. Boxes are xyxy pixels. Label -1 with a zero
box is padding; -1 with a real box is a region to ignore (a crowd, a part, a difficult object).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from detectors.boxes import box_area, box_intersection

__all__ = ["IGNORE", "NEGATIVE", "POSITIVE", "MatchConfig", "Matches", "match_boxes"]

IGNORE, NEGATIVE, POSITIVE = -1, 0, 1
TINY = torch.finfo(torch.float32).tiny
AT_ONCE = 32  # boxes: all pairs of D7's anchors and 100 boxes would be 177 MB, several times


class Matches(NamedTuple):
    """One entry for each anchor."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """(B, N) int32, row of the box with the largest IoU; 0 where none overlaps."""
    state: Tensor
    """(B, N) int32: IGNORE, NEGATIVE or POSITIVE."""


@dataclass(frozen=True)
class MatchConfig:
    """What counts as object and as background."""

    positive: float = 0.7
    """Object from this IoU on."""
    negative: float = 0.3
    """Background below this IoU; ignored in between."""
    low_quality: bool = False
    """The best anchors of each box are positive whatever their IoU."""
    force: bool = False
    """The best anchor of each box, the first of equals, is positive and belongs to that box."""
    ignore: float = 0.5
    """Background with this share of its area inside one region to ignore is ignored."""

    def __post_init__(self) -> None:
        if not 0 <= self.negative <= self.positive <= 1:
            raise ValueError(
                "matching thresholds must be 0 <= negative <= positive <= 1, got"
                f" negative {self.negative}, positive {self.positive}"
            )
        if not 0 < self.ignore <= 1:
            raise ValueError(f"matching.ignore must be over 0, up to 1, got {self.ignore}")


def match_boxes(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    config: MatchConfig,
    allowed: Optional[Tensor] = None,
) -> Matches:
    """Match anchors with boxes by IoU (Faster R-CNN, arXiv:1506.01497, sec. 3.1.2).

    A low-quality match needs an overlap, and takes the box that overlaps the anchor most, as
    detectron2's does, not the box whose best anchor it is. A forced one takes that box, the first
    of several, whatever else overlaps the anchor: automl's `force_match_for_each_row`.

    Args:
        anchors: (N, 4), or (B, N, 4) where each image has its own.
        boxes: (B, G, 4).
        labels: (B, G) integers.
        config: thresholds.
        allowed: (N,) or (B, N) bool; others are ignored and no box's best. None = all.

    Returns:
        Matches; images without boxes have background only.
    """
    found = [
        match_some(anchors, some_boxes, some_labels, config, allowed)
        for some_boxes, some_labels in zip(
            torch.split(boxes, AT_ONCE, dim=1), torch.split(labels, AT_ONCE, dim=1)
        )
    ]
    best, index, covered, positive, forced, owner = found[0]
    for number, more in enumerate(found[1:], start=1):  # of equals the first stays
        better, offset = more.best > best, number * AT_ONCE
        index = torch.where(better, more.index + offset, index)
        owner = torch.where(more.forced & ~forced, more.owner + offset, owner)
        best = torch.maximum(best, more.best)
        covered = torch.maximum(covered, more.covered)
        positive, forced = positive | more.positive, forced | more.forced
    index = torch.where(forced, owner, index)
    positive = positive | forced | (best >= config.positive)
    negative = (best < config.negative) & (covered < config.ignore)
    if allowed is not None:
        positive, negative = positive & allowed, negative & allowed
    state = torch.full_like(index, IGNORE, dtype=torch.int32)
    state = torch.where(negative, torch.full_like(state, NEGATIVE), state)
    state = torch.where(positive, torch.full_like(state, POSITIVE), state)
    return Matches(index, state)


class Overlaps(NamedTuple):
    """What some of the boxes are to each anchor; every field is (B, N)."""

    best: Tensor
    """Largest IoU."""
    index: Tensor  # type: ignore[assignment]  # as above
    """Row of its box."""
    covered: Tensor
    """Largest share of the anchor inside one region to ignore."""
    positive: Tensor
    """Bool: the best of a box, by `low_quality`."""
    forced: Tensor
    """Bool: the best of a box, by `force`."""
    owner: Tensor
    """Row of that box, where forced; else past the last."""


def match_some(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    config: MatchConfig,
    allowed: Optional[Tensor],
) -> Overlaps:
    """Hold all anchors against some boxes; arguments as `match_boxes`."""
    common = box_intersection(boxes, anchors)  # (B, G, N): long rows are read fastest
    area = box_area(anchors)[..., None, :]  # (B, 1, N) or (1, N)
    ignored = (labels < 0)[..., None]  # (B, G, 1)
    sizes = box_area(boxes)[..., None].masked_fill(ignored, math.inf)  # so that its IoU is 0
    # Two boxes without area have no union: 0 / TINY.
    iou = common / (area + sizes).sub_(common).clamp_(min=TINY)
    if allowed is not None:
        iou = torch.where(allowed[..., None, :], iou, torch.zeros_like(iou))
    best, index = iou.max(dim=1)  # (B, N)
    index = index.int()
    crowd = (common * ignored.float()).amax(dim=1)  # (B, N)
    area = area.squeeze(-2)
    covered = torch.where(area > 0, crowd / area.clamp(min=TINY), torch.zeros_like(crowd))
    positive = forced = torch.zeros_like(best, dtype=torch.bool)
    owner = index
    if config.low_quality:
        best_of_box = iou.amax(dim=2, keepdim=True)  # (B, G, 1)
        positive = ((iou == best_of_box) & (best_of_box > 0)).any(dim=1)
    if config.force:
        most, own = iou.max(dim=2, keepdim=True)  # (B, G, 1), each box's anchor
        own = own.int().masked_fill(most <= 0, -1)
        place = torch.arange(iou.shape[2], dtype=torch.int32, device=iou.device)  # (N,)
        number = torch.arange(boxes.shape[1], dtype=torch.int32, device=iou.device)[:, None]
        nobody = torch.full_like(number, boxes.shape[1])
        owner = torch.where(place == own, number, nobody).amin(dim=1)  # (B, N)
        forced = owner < boxes.shape[1]
    return Overlaps(best, index, covered, positive, forced, owner)
