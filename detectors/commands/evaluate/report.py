"""Scores on screen, in percent; each number carries the name of its flavour."""

from __future__ import annotations

import math
from typing import Dict, List

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


def score_lines(scores: Scores) -> List[str]:
    """The table of classes, then one line per flavour.

    P and R are at IoU 0.5 and the score where F1 is highest. A key is the one of `scores.json`.
    """
    lines = table(*scores.table()).splitlines()
    for flavour, (name, keys) in FLAVOURS.items():
        shown = [f"{key}_{flavour}" for key in keys if f"{key}_{flavour}" in scores.values]
        if shown:
            values = [f"{key} {with_interval(scores.values[key])}" for key in shown]
            lines.append(f"{name}:  {'  '.join(values)}")
    if scores.resamples:
        lines.append(
            f"[low, high]: 95 % of {scores.resamples} resamples of the test images;"
            " another training seed is not in them"
        )
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
