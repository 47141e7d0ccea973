"""COCO's average precision; pycocotools is the judge.

C classes, I pictures, T = 10 thresholds of IoU, 0.50 to 0.95. VOC's difficult boxes are not asked
for here either; COCO's own rule for crowds holds. pycocotools prints; here it is silent.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations
from data.evaluation.found import Found
from data.evaluation.ranking import Ranking

__all__ = ["STATISTICS", "CocoScores", "ap_101", "evaluate"]

Floats = NDArray[np.float64]

STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl") + (
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)
"""COCO's twelve numbers in pycocotools' order; s, m, l are small, medium and large objects."""
ALL_AREAS, MOST = 0, 2  # indices of pycocotools' area range "all" and of 100 detections a picture
MISSING = """the COCO metric needs pycocotools: pip install "pycocotools>=2.0.6" """.strip()


class CocoScores(NamedTuple):
    """What pycocotools says, as fractions; NaN where it says -1 (no such objects)."""

    statistics: Dict[str, float]
    """By the names of `STATISTICS`."""
    class_ap: Floats
    """(C,) IoU 0.50 to 0.95."""
    class_ap50: Floats
    """(C,)."""
    rankings: List[Ranking]
    """C of them: its matches, for resampling."""


def evaluate(annotations: Annotations, found: Found) -> CocoScores:
    """Judge all detections, 100 a picture at most.

    Raises:
        RuntimeError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise RuntimeError(MISSING) from error

    class Judge(COCOeval):  # type: ignore[misc]  # pycocotools has no types
        def _prepare(self) -> None:
            super()._prepare()  # sets `ignore` from `iscrowd` alone
            for boxes in self._gts.values():
                for box in boxes:
                    box["ignore"] = box["ignore"] or box["difficult"]

    with contextlib.redirect_stdout(io.StringIO()):
        sets = [COCO(), COCO()]
        order = np.argsort(annotations.image_ids, kind="stable")  # it visits pictures by their id
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        for one, entries in zip(sets, (truth_entries(annotations), found_entries(found))):
            for entry in entries:
                entry["image_id"] = int(ranks[entry["image_id"]]) + 1
            one.dataset = {
                "images": [{"id": place + 1} for place in range(len(annotations))],
                "categories": [{"id": label + 1} for label in range(len(annotations.class_names))],
                "annotations": entries,
            }
            one.createIndex()
        judge = Judge(*sets, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    statistics = {name: or_nan(value) for name, value in zip(STATISTICS, judge.stats)}
    precision = judge.eval["precision"][..., ALL_AREAS, MOST]  # (T, 101, C)
    precision = np.where(precision > -1, precision, np.nan)
    return CocoScores(
        statistics,
        precision.mean(axis=(0, 1)),
        precision[0].mean(axis=0),
        rankings(judge, order, len(annotations.class_names)),
    )


def or_nan(value: float) -> float:
    return float(value) if value > -1 else float("nan")


def truth_entries(annotations: Annotations) -> List[Dict[str, Any]]:
    """Annotations as COCO has them; `image_id` is still the place."""
    boxes = annotations.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "id": row + 1,  # 0 would mean "no match"
            "image_id": image,
            "category_id": label + 1,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            "difficult": int(difficult),
        }
        for row, (image, label, box, area, crowd, difficult) in enumerate(
            zip(
                annotations.images.tolist(),
                annotations.labels.tolist(),
                boxes.tolist(),
                annotations.areas.tolist(),
                annotations.crowd.tolist(),
                annotations.difficult.tolist(),
            )
        )
    ]


def found_entries(found: Found) -> List[Dict[str, Any]]:
    """Detections as `COCO.loadRes` makes them; it takes no empty list."""
    boxes = found.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (found.images, found.labels, boxes, found.scores)
    return [
        {
            "id": row + 1,
            "image_id": image,
            "category_id": label + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for row, (image, label, box, score) in enumerate(zip(*(c.tolist() for c in columns)))
    ]


def rankings(judge: Any, order: NDArray[np.int64], classes: int) -> List[Ranking]:
    """pycocotools' matches of all areas, class by class.

    Args:
        judge: a COCOeval that has evaluated.
        order: (I,) place of the picture with each of the judge's ids.
        classes: C.
    """
    thresholds, areas = len(judge.params.iouThrs), len(judge.params.areaRng)
    most = judge.params.maxDets[MOST]
    per_area = len(order)
    results = []
    for label in range(classes):
        start = (label * areas + ALL_AREAS) * per_area
        images = judge.evalImgs[start : start + per_area]
        scores, places, hits, neutral, truth = [], [], [], [], []
        for place, image in zip(order, images):
            if image is None:
                continue
            matched = image["dtMatches"][:, :most] > 0
            ignored = image["dtIgnore"][:, :most] > 0
            scores.append(np.array(image["dtScores"][:most], dtype=np.float64))
            places.append(np.full(matched.shape[1], place))
            hits.append(matched & ~ignored)
            neutral.append(ignored)
            truth.append(np.full(int((np.array(image["gtIgnore"]) == 0).sum()), place))
        none = np.zeros((thresholds, 0), dtype=np.bool_)
        all_scores = np.concatenate([*scores, np.zeros(0)])
        best_first = np.argsort(-all_scores, kind="mergesort")
        results.append(
            Ranking(
                all_scores[best_first],
                np.concatenate([*places, np.zeros(0)]).astype(np.int64)[best_first],
                np.concatenate([*hits, none], axis=1)[:, best_first],
                np.concatenate([*neutral, none], axis=1)[:, best_first],
                np.concatenate([*truth, np.zeros(0)]).astype(np.int64),
            )
        )
    return results


def ap_101(recall: Floats, precision: Floats) -> float:
    """COCO's rule: the mean, over recalls 0, 0.01, ... 1, of the best precision at that recall or
    more; equal to pycocotools, which a test shows.

    Args:
        recall: (M,) after each detection, rising; M > 0.
        precision: (M,).
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, np.linspace(0.0, 1.0, 101), side="left")
    return float(np.append(best, 0.0)[first].mean())
