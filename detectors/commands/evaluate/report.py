"""Scores on screen, in percent; each line carries the names of its flavour and its NMS."""

from __future__ import annotations

import math
from typing import Dict, List, Mapping

from data.evaluation.intervals import Interval
from data.evaluation.scores import Scores, with_interval
from detectors.experiment.console import table

__all__ = ["difference_lines", "score_lines"]

VOC = ("AP50", "AP75", "AP")
FLAVOURS = {
    "voc07": ("VOC2007, 11 points", VOC),
    "voc12": ("VOC2010-2012, area", VOC),
    "coco": ("COCO, 101 points", ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
}
"""Flavour -> what it is, and the keys of its line, best known first."""


def score_lines(scores: Mapping[str, Scores]) -> List[str]:
    """The table of classes of the first, then one line per flavour of each.

    P and R are at IoU 0.5 and the score where F1 is highest. A key is the one of `scores.json`.

    Args:
        scores: by NMS; under "" where nobody knows which it was.
    """
    first = next(iter(scores.values()))
    lines = table(*first.table()).splitlines()
    for nms, one in scores.items():
        lines += flavour_lines(one, nms)
    if first.resamples:
        lines.append(
            f"[low, high]: 95 % of {first.resamples} resamples of the test images;"
            " another training seed is not in them"
        )
    return lines


def flavour_lines(scores: Scores, nms: str) -> List[str]:
    """`COCO, 101 points:  AP_coco (hard NMS) 33.6  AP50_coco 52.1 ...`"""
    label = f" ({nms} NMS)" if nms else ""
    lines = []
    for flavour, (name, keys) in FLAVOURS.items():
        shown = [f"{key}_{flavour}" for key in keys if f"{key}_{flavour}" in scores.values]
        if shown:
            labelled = [f"{shown[0]}{label}", *shown[1:]]
            values = [with_interval(scores.values[key]) for key in shown]
            pairs = [f"{key} {value}" for key, value in zip(labelled, values)]
            lines.append(f"{name}:  {'  '.join(pairs)}")
    return lines


def difference_lines(differences: Dict[str, Interval], against: str) -> List[str]:
    """One line per key: `AP50_voc07 +1.2 [0.3, 2.0] against runs/...: better`."""
    return [difference_line(key, value, against) for key, value in differences.items()]


def difference_line(key: str, difference: Interval, against: str) -> str:
    value, low, high = (f"{100 * part:+.1f}" for part in difference)
    if math.isnan(difference.low):  # resamples were not asked for
        return f"{key} {value} against {against}"
    verdict = "better" if difference.value > 0 else "worse"
    if difference.covers_zero:
        verdict = "no difference that these images show"
    return f"{key} {value} [{low}, {high}] against {against}: {verdict}"
