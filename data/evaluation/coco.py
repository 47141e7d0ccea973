"""COCO's average precision; pycocotools is the judge.

C classes, I pictures, T = 10 thresholds of IoU, 0.50 to 0.95. VOC's difficult boxes are not asked
for here either; COCO's own rule for crowds holds. pycocotools prints; here it is silent.

faster-coco-eval, where it is installed and asked for, gives the same numbers sooner.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations
from data.evaluation.found import Found
from data.evaluation.ranking import Ranking

__all__ = ["BACKENDS", "STATISTICS", "CocoScores", "ap_101", "evaluate", "require"]

Floats = NDArray[np.float64]

BACKENDS = ("pycocotools", "faster-coco-eval")
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
MISSING_FASTER = (
    "evaluate.coco_backend=faster-coco-eval needs Python 3.10 and pip install faster-coco-eval;"
    " evaluate.coco_backend=pycocotools gives the same numbers later"
)


class CocoScores(NamedTuple):
    """What pycocotools says, as fractions; NaN where it says -1 (no such objects)."""

    statistics: Dict[str, float]
    """By the names of `STATISTICS`."""
    class_ap: Floats
    """(C,) IoU 0.50 to 0.95."""
    class_ap50: Floats
    """(C,)."""
    rankings: List[Ranking]
    """C of them: pycocotools' matches, for resampling; none where they were not asked for."""


def evaluate(
    annotations: Annotations,
    found: Found,
    backend: str = "pycocotools",
    *,
    with_rankings: bool = True,
) -> CocoScores:
    """Judge all detections, 100 a picture at most.

    Args:
        annotations: the truth.
        found: detections of the same pictures.
        backend: of `BACKENDS`.
        with_rankings: whether the matches are asked for; faster-coco-eval does not give them, so
            they cost a quarter of pycocotools' time there.

    Raises:
        ValueError: unknown backend.
        RuntimeError: the backend is not installed.
    """
    order = np.argsort(annotations.image_ids, kind="stable")  # pictures are visited by their id
    with contextlib.redirect_stdout(io.StringIO()):
        judge = opened(annotations, found, order, backend)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        matched = judge
        if with_rankings and backend != "pycocotools":
            matched = opened(annotations, found, order, "pycocotools")
            matched.params.areaRng = matched.params.areaRng[ALL_AREAS : ALL_AREAS + 1]
            matched.evaluate()
    statistics = {name: or_nan(value) for name, value in zip(STATISTICS, judge.stats)}
    precision = judge.eval["precision"][..., ALL_AREAS, MOST]  # (T, 101, C)
    precision = np.where(precision > -1, precision, np.nan)
    classes = len(annotations.class_names)
    return CocoScores(
        statistics,
        precision.mean(axis=(0, 1)),
        precision[0].mean(axis=0),
        rankings(matched, order, classes) if with_rankings else [],
    )


def require(backend: str) -> Tuple[Any, Any]:
    """A backend's `COCO` and `COCOeval`; raises as `evaluate` does."""
    if backend not in BACKENDS:
        raise ValueError(
            f"evaluate.coco_backend must be one of {', '.join(BACKENDS)}, got '{backend}'"
        )
    try:
        if backend == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
    except ImportError as error:
        raise RuntimeError(MISSING if backend == "pycocotools" else MISSING_FASTER) from error
    return COCO, COCOeval


def opened(annotations: Annotations, found: Found, order: NDArray[np.int64], backend: str) -> Any:
    """A `COCOeval` of a backend that has not evaluated yet; pictures are numbered by `order`."""
    table, base = require(backend)

    class Judge(base):  # type: ignore[misc, valid-type]  # neither has types
        def _prepare(self) -> None:
            super()._prepare()  # sets `ignore` from `iscrowd` alone
            for box in self.cocoGt.anns.values():
                box["ignore"] = int(box["ignore"] or box["difficult"])

    sets = [table(), table()]
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    for one, entries in zip(sets, (truth_entries(annotations), found_entries(found))):
        for entry in entries:
            entry["image_id"] = int(ranks[entry["image_id"]]) + 1
        one.dataset = {
            "images": [{"id": place + 1} for place in range(len(annotations))],
            "categories": category_entries(annotations.class_names),
            "annotations": entries,
        }
        one.createIndex()
    return Judge(*sets, "bbox")


def category_entries(names: Sequence[str]) -> List[Dict[str, Any]]:
    """Labels from 1."""
    return [{"id": label + 1, "name": name} for label, name in enumerate(names)]


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
