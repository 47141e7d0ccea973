"""How well anchors fit boxes: the best IoU that each box has with any anchor.

G boxes, L levels, A anchors per cell, N anchors of all levels. Boxes are xyxy pixels of the
network's input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from detectors.boxes import box_area, box_iou

__all__ = ["Coverage", "best_ious", "coverage", "split_levels"]


@dataclass(frozen=True)
class Coverage:
    """Boxes held against anchors; shares are 0 where there is no box."""

    best: Tensor
    """(G,) float32, the largest IoU that each box has with an anchor."""
    smaller: Tensor
    """(G,) bool: the box has less area than the smallest anchor."""
    smallest: float
    """Root of that anchor's area, pixels."""
    threshold: float
    """IoU from which on an anchor is matched for itself. A box that no anchor reaches is learned
    from its best anchor alone, or from none."""

    @property
    def unreached(self) -> Tensor:
        """(G,) bool: no anchor has `threshold`."""
        return self.best < self.threshold

    @property
    def share_unreached(self) -> float:
        """Of all boxes."""
        return share(self.unreached)

    @property
    def share_smaller(self) -> float:
        """Of all boxes."""
        return share(self.smaller)

    @property
    def mean_best(self) -> float:
        """Mean of `best`, what k-means over anchors makes large."""
        return float(self.best.mean()) if len(self.best) else 0.0

    def of(self, chosen: Tensor) -> Coverage:
        """Of some boxes: (G,) bool."""
        return replace(self, best=self.best[chosen], smaller=self.smaller[chosen])


def share(flags: Tensor) -> float:
    """Of those that are True."""
    return float(flags.float().mean()) if len(flags) else 0.0


def coverage(
    boxes: Tensor,
    levels: Sequence[Tensor],
    threshold: float,
    inside: Optional[Tuple[int, int]] = None,
) -> Coverage:
    """Hold boxes against anchors.

    Args:
        boxes: (G, 4) float32, with area.
        levels: as `split_levels` makes them.
        threshold: IoU of a match.
        inside: (height, width) where anchors that cross the input's edge are not matched.
    """
    smallest = torch.stack([box_area(level[0, 0]).min() for level in levels]).min()
    # An anchor's area is a difference of coordinates: a box of just that size is not smaller.
    smaller = box_area(boxes) < smallest * (1 - 1e-5)
    return Coverage(best_ious(boxes, levels, inside), smaller, float(smallest.sqrt()), threshold)


def split_levels(anchors: Tensor, maps: Sequence[Tuple[int, int]]) -> List[Tensor]:
    """The anchors of each map.

    Args:
        anchors: (N, 4), ordered level, row, column, anchor.
        maps: (rows, columns) of each level, in that order.

    Returns:
        L times (rows, columns, A, 4).

    Raises:
        ValueError: N is no multiple of the cells.
    """
    cells = [rows * columns for rows, columns in maps]
    if len(anchors) % sum(cells):
        raise ValueError(f"{len(anchors)} anchors are not as many on each of {sum(cells)} cells")
    per_cell = len(anchors) // sum(cells)
    parts = torch.split(anchors, [count * per_cell for count in cells])
    return [part.reshape(rows, columns, per_cell, 4) for part, (rows, columns) in zip(parts, maps)]


def best_ious(
    boxes: Tensor, levels: Sequence[Tensor], inside: Optional[Tuple[int, int]] = None
) -> Tensor:
    """The largest IoU of each box with any anchor, as `box_iou(boxes, anchors).max(dim=1)` finds.

    Copies of one shape overlap a box the more, the nearer their centres are, along each axis by
    itself: of each level only the nearest copies are looked at.

    Args:
        boxes: (G, 4) float32.
        levels: (rows, columns, A, 4) each, copies of one cell on a regular grid.
        inside: (height, width) that an anchor must not cross; None = all count.

    Returns:
        (G,) float32.
    """
    best = boxes.new_zeros(len(boxes))
    for level in levels:
        # (G, A) each
        row, rows = nearest(boxes[:, 1::2], level[:, 0, :, 1::2], inside and inside[0])
        column, columns = nearest(boxes[:, ::2], level[0, :, :, ::2], inside and inside[1])
        anchors = level[row, column, torch.arange(level.shape[2])]  # (G, A, 4)
        iou = box_iou(boxes[:, None], anchors)[:, 0] * (rows & columns)  # (G, A)
        best = torch.maximum(best, iou.amax(dim=1))
    return best


def nearest(boxes: Tensor, anchors: Tensor, limit: Optional[int]) -> Tuple[Tensor, Tensor]:
    """Along one axis, which copy of each anchor lies nearest to each box.

    Args:
        boxes: (G, 2) begin and end.
        anchors: (copies, A, 2) likewise, at regular steps.
        limit: of the axis; copies that cross it or 0 do not count. None = all do.

    Returns:
        (G, A) int64 place among the copies; (A,) bool, False where no copy counts.
    """
    counts = torch.ones_like(anchors[..., 0], dtype=torch.bool)  # (copies, A)
    if limit is not None:
        counts = (anchors[..., 0] >= 0) & (anchors[..., 1] <= limit)
    number = counts.sum(dim=0)  # (A,)
    first = counts.int().argmax(dim=0)
    last = first + (number - 1).clamp(min=0)
    centres = anchors.mean(dim=2)  # (copies, A)
    step = centres[1, 0] - centres[0, 0] if len(centres) > 1 else centres.new_ones(())
    place = ((boxes.mean(dim=1)[:, None] - centres[0]) / step).round().long()  # (G, A)
    return torch.minimum(torch.maximum(place, first), last), number > 0
