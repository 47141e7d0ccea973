"""All metrics of a set of detections at once, each under a name that says its flavour.

    AP50_voc07   mean AP at IoU 0.5, VOC2007's 11 points   (the 80.3 and 80.5 of the papers)
    AP50_voc12   the same detections, area under the curve
    AP_voc07     averaged over IoU 0.50 to 0.95, as Detectron2 prints it for VOC
    AP_coco      pycocotools

Scores are fractions here and in json, percent on screen. C classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations
from data.evaluation import coco, voc
from data.evaluation.found import Found
from data.evaluation.intervals import Interval, Measure, intervals, paired_difference
from data.evaluation.ranking import Ranking, Rule, average, average_precision, best_f1
from data.formats.stream import open_part, publish

__all__ = [
    "FLAVOURS",
    "ClassScores",
    "Scores",
    "compare",
    "evaluate",
    "flat",
    "keys",
    "with_interval",
    "write_scores",
]

Floats = NDArray[np.float64]

VOC_RULES: Dict[str, Rule] = {"voc07": voc.ap_07, "voc12": voc.ap_12}
FLAVOURS = (*VOC_RULES, "coco")
"""What every key ends in."""
FILE = "scores.json"


def keys(flavours: Sequence[str]) -> List[str]:
    """The keys that `evaluate` gives for some flavours.

    Raises:
        ValueError: unknown flavour, or none.
    """
    unknown = [name for name in flavours if name not in FLAVOURS]
    if unknown or not flavours:
        raise ValueError(
            f"evaluate.flavours must be some of {', '.join(FLAVOURS)}, got {list(flavours)}"
        )
    voc_keys = [f"{key}_{name}" for name in VOC_RULES for key in ("AP50", "AP75", "AP")]
    coco_keys = [f"{key}_coco" for key in coco.STATISTICS]
    return [key for key in (*voc_keys, *coco_keys) if key.rpartition("_")[2] in flavours]


@dataclass(frozen=True)
class ClassScores:
    """One class; fractions, NaN where it has nothing to find."""

    name: str
    """The class."""
    images: int
    """Pictures that show it."""
    boxes: int
    """Boxes to be found: without difficult ones and crowds."""
    precision: float
    """At IoU 0.5 and the score where F1 is highest."""
    recall: float
    """As `precision`."""
    values: Dict[str, Interval]
    """By key: `AP50_voc07`, `AP50_voc12`, `AP_coco`, `AP50_coco`."""


@dataclass(frozen=True)
class Scores:
    """Every metric of one set of detections."""

    values: Dict[str, Interval]
    """By key; low and high are NaN where no interval was asked for."""
    classes: List[ClassScores]
    """By label."""
    resamples: int
    """Of the intervals; 0: none."""

    def as_json(self) -> Dict[str, Any]:
        """Plain types: each key with its value, `KEY_low` and `KEY_high` where there are intervals,
        and `classes` by name. None stands for "nothing to find".
        """
        note = "intervals: 95 %, test images resampled {} times; seeds of training are not in them"
        return {
            **flat(self.values),
            **({"note": note.format(self.resamples)} if self.resamples else {}),
            "classes": {
                row.name: {
                    "images": row.images,
                    "boxes": row.boxes,
                    "precision_iou50": or_none(row.precision),
                    "recall_iou50": or_none(row.recall),
                    **flat(row.values),
                }
                for row in self.classes
            },
        }

    def table(self) -> Tuple[List[str], List[List[str]]]:
        """Head and rows for the screen, `all` first; in percent."""
        keys = list(self.classes[0].values) if self.classes else []
        rows = [
            [
                row.name,
                str(row.images),
                str(row.boxes),
                percent(row.precision),
                percent(row.recall),
                *(with_interval(row.values[key]) for key in keys),
            ]
            for row in self.classes
        ]
        total = [
            "all",
            "",
            str(sum(row.boxes for row in self.classes)),
            percent(average([row.precision for row in self.classes])),
            percent(average([row.recall for row in self.classes])),
            *(with_interval(self.values[key]) for key in keys),
        ]
        return ["class", "images", "boxes", "P", "R", *keys], [total, *rows]


def evaluate(
    annotations: Annotations,
    found: Found,
    flavours: Sequence[str] = FLAVOURS,
    *,
    resamples: int = 300,
    seed: int = 0,
    backend: str = "pycocotools",
) -> Scores:
    """Judge detections by every flavour that is asked for.

    Args:
        annotations: the truth.
        found: detections of the same pictures.
        flavours: of `FLAVOURS`.
        resamples: for 95 % intervals of the APs at IoU 0.5 and of `AP_coco`; 0: none.
        seed: of the resampling.
        backend: of `data.evaluation.coco.BACKENDS`.

    Raises:
        ValueError: unknown flavour.
        RuntimeError: "coco" without pycocotools.
    """
    keys(flavours)
    matched = voc.rankings(annotations, found)
    values: Dict[str, Interval] = {}
    by_class: List[Dict[str, Interval]] = [{} for _ in annotations.class_names]
    judged = Judged(annotations, resamples, seed, values, by_class)
    for name in (name for name in VOC_RULES if name in flavours):
        judged.add_measured(f"AP50_{name}", class_measure(matched, [0], VOC_RULES[name]))
        everywhere = [
            average([average_precision(ranking, level, VOC_RULES[name]) for ranking in matched])
            for level in range(len(voc.THRESHOLDS))
        ]
        values[f"AP75_{name}"] = exactly(everywhere[5])
        values[f"AP_{name}"] = exactly(average(everywhere))
    if "coco" in flavours:
        result = coco.evaluate(annotations, found, backend, with_rankings=resamples > 0)
        if resamples:
            levels = range(len(voc.THRESHOLDS))
            judged.add_measured("AP_coco", class_measure(result.rankings, levels, coco.ap_101))
            judged.add_measured("AP50_coco", class_measure(result.rankings, [0], coco.ap_101))
        for name, value in result.statistics.items():  # pycocotools has the last word
            put(values, f"{name}_coco", value)
        for row, ap, ap50 in zip(by_class, result.class_ap, result.class_ap50):
            put(row, "AP_coco", float(ap))
            put(row, "AP50_coco", float(ap50))
    classes = []
    for name, ranking, row in zip(annotations.class_names, matched, by_class):
        precision, recall, _ = best_f1(ranking, 0)
        shown, boxes = len(np.unique(ranking.truth_images)), len(ranking.truth_images)
        classes.append(ClassScores(name, shown, boxes, precision, recall, row))
    return Scores(values, classes, resamples)


def put(values: Dict[str, Interval], key: str, value: float) -> None:
    """Set a value; an interval that is there stays."""
    values[key] = values.get(key, exactly(value))._replace(value=value)


@dataclass
class Judged:
    """Where measures put their values."""

    annotations: Annotations
    resamples: int
    seed: int
    values: Dict[str, Interval]
    by_class: List[Dict[str, Interval]]

    def add_measured(self, key: str, measure: Measure) -> None:
        """A mean and its classes, with intervals where they are asked for."""
        if self.resamples:
            mean, *rows = intervals(
                measure, len(self.annotations), count=self.resamples, seed=self.seed
            )
        else:
            mean, *rows = [exactly(float(value)) for value in measure(None)]
        self.values[key] = mean
        for row, interval in zip(self.by_class, rows):
            row[key] = interval


def class_measure(rankings: Sequence[Ranking], levels: Sequence[int], rule: Rule) -> Measure:
    """(1 + C,): the mean over classes, then every class, each averaged over IoU levels."""

    def measure(weights: Optional[Floats]) -> Floats:
        values = [
            float(np.mean([average_precision(ranking, level, rule, weights) for level in levels]))
            for ranking in rankings
        ]
        return np.array([average(values), *values])

    return measure


def compare(
    annotations: Annotations,
    ours: Found,
    theirs: Found,
    flavours: Sequence[str] = FLAVOURS,
    *,
    resamples: int = 300,
    seed: int = 0,
) -> Dict[str, Interval]:
    """By how much one set of detections beats another on the same pictures, with 95 % intervals.

    Returns:
        `AP50_voc07`, `AP50_voc12`, `AP_coco`: ours - theirs, in fractions.
    """
    pairs: Dict[str, Tuple[Measure, Measure]] = {}
    matched = [voc.rankings(annotations, found, [0.5]) for found in (ours, theirs)]
    for name in (name for name in VOC_RULES if name in flavours):
        one, other = (class_measure(rankings, [0], VOC_RULES[name]) for rankings in matched)
        pairs[f"AP50_{name}"] = (one, other)
    if "coco" in flavours:
        one, other = (
            class_measure(
                coco.evaluate(annotations, found).rankings,
                range(len(voc.THRESHOLDS)),
                coco.ap_101,
            )
            for found in (ours, theirs)
        )
        pairs["AP_coco"] = (one, other)
    return {
        key: paired_difference(one, other, len(annotations), count=resamples, seed=seed)[0]
        for key, (one, other) in pairs.items()
    }


def write_scores(folder: Path, scores: Scores, about: Mapping[str, Any]) -> None:
    """Write `scores.json`: `about`, then `Scores.as_json`; fractions, null where there is nothing
    to find.
    """
    path = folder / FILE
    with open_part(path) as file:
        file.write(json.dumps({**about, **scores.as_json()}, indent=1, ensure_ascii=False) + "\n")
    publish(path)


def exactly(value: float) -> Interval:
    """A value without an interval."""
    return Interval(value, math.nan, math.nan)


def or_none(value: float) -> Optional[float]:
    return None if math.isnan(value) else value


def flat(values: Dict[str, Interval]) -> Dict[str, Optional[float]]:
    result: Dict[str, Optional[float]] = {}
    for key, interval in values.items():
        result[key] = or_none(interval.value)
        if not math.isnan(interval.low):
            result[f"{key}_low"], result[f"{key}_high"] = interval.low, interval.high
    return result


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def with_interval(interval: Interval) -> str:
    """`80.3 [79.6, 81.0]`."""
    if math.isnan(interval.low):
        return percent(interval.value)
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"
