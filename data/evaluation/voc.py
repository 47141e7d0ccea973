"""PASCAL VOC's average precision: VOC2007's 11 points and the area used since 2010.

The rules (The PASCAL VOC Challenge, IJCV 2010; as py-faster-rcnn's evaluator applies them):
detections of a class go by falling score; each looks at the box of its class and picture that it
overlaps most; IoU must be above the threshold; a box found a second time is a miss; difficult
boxes are not asked for, and who finds one is neither right nor wrong. Crowds count as difficult.

C classes, T thresholds. Boxes are continuous pixels, so no +1: VOC's inclusive pixels are converted
where they are read, which gives the same overlaps to the last bit.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations
from data.evaluation.found import Found
from data.evaluation.ranking import Ranking

__all__ = ["THRESHOLDS", "ap_07", "ap_12", "iou", "rankings"]

Floats = NDArray[np.float64]

THRESHOLDS: Tuple[float, ...] = tuple(50 / 100 + step * 5 / 100 for step in range(10))
"""0.50, 0.55, ... 0.95."""


def iou(box: Floats, others: Floats, *, plus_one: bool = False) -> Floats:
    """Overlap of one box with others over their union.

    Args:
        box: (4,) xyxy.
        others: (N, 4) xyxy.
        plus_one: sides are max - min + 1, for figures that were published so.

    Returns:
        (N,) 0..1; 0 where both are empty.
    """
    one = 1.0 if plus_one else 0.0
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    inner: Floats = np.maximum(high - low + one, 0).prod(axis=1)
    areas: Floats = (others[:, 2:] - others[:, :2] + one).prod(axis=1)
    union: Floats = (box[2:] - box[:2] + one).prod() + areas - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def rankings(
    annotations: Annotations,
    found: Found,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    plus_one: bool = False,
) -> List[Ranking]:
    """Match every class's detections with its boxes; C of them.

    Args:
        annotations: the truth.
        found: detections of the same pictures.
        thresholds: T of them; IoU must be above.
        plus_one: see `iou`.
    """
    images, skip = annotations.images, annotations.difficult | annotations.crowd
    levels = np.array(thresholds, dtype=np.float64)
    return [
        rank(
            found.take(mine),
            images[theirs],
            annotations.boxes[theirs].astype(np.float64),
            skip[theirs],
            levels,
            plus_one,
        )
        for label in range(len(annotations.class_names))
        for mine, theirs in [(found.labels == label, annotations.labels == label)]
    ]


def rank(
    found: Found,
    truth_images: NDArray[np.int64],
    truth_boxes: Floats,
    skip: NDArray[np.bool_],
    thresholds: Floats,
    plus_one: bool,
) -> Ranking:
    """One class. `truth_images` rises."""
    order = np.argsort(-found.scores, kind="stable")
    hits = np.zeros((len(thresholds), len(order)), dtype=np.bool_)
    neutral = np.zeros_like(hits)
    taken = np.zeros((len(thresholds), len(truth_boxes)), dtype=np.bool_)
    images = found.images[order]
    first = np.searchsorted(truth_images, images, side="left")
    last = np.searchsorted(truth_images, images, side="right")
    for place in np.flatnonzero(first < last):  # pictures with nothing to find: misses
        rows = slice(first[place], last[place])
        overlaps = iou(found.boxes[order[place]], truth_boxes[rows], plus_one=plus_one)
        best = int(np.argmax(overlaps))
        row = first[place] + best
        over = overlaps[best] > thresholds  # (T,)
        if skip[row]:
            neutral[:, place] = over
        else:
            hits[:, place] = over & ~taken[:, row]
            taken[:, row] |= over
    return Ranking(found.scores[order], images, hits, neutral, truth_images[~skip])


def ap_07(recall: Floats, precision: Floats) -> float:
    """VOC2007: the mean, over recalls 0, 0.1, ... 1, of the best precision at that recall or more.

    Args:
        recall: (M,) after each detection, rising; M > 0.
        precision: (M,).
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side="left")
    return float(np.append(best, 0.0)[first].sum() / 11)


def ap_12(recall: Floats, precision: Floats) -> float:
    """VOC2010 to 2012: the area under the curve, precision made to fall with recall.

    Args:
        recall: (M,) after each detection, rising; M > 0.
        precision: (M,).
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())
