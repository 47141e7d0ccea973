"""Detections of one class, best first, each a hit, a miss or neither: what every AP is made from.

M detections of the class, P boxes to be found, T thresholds of IoU, I pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranking", "Rule", "average", "average_precision", "best_f1", "curve"]

Floats = NDArray[np.float64]

Rule = Callable[[Floats, Floats], float]
"""Recall and precision after each of M > 0 detections -> average precision."""


@dataclass(frozen=True)
class Ranking:
    """One class's detections by falling score; of equal scores the first stays first."""

    scores: Floats
    """(M,)."""
    images: NDArray[np.int64]
    """(M,) place of the picture."""
    hits: NDArray[np.bool_]
    """(T, M) found a box that nobody had found before."""
    neutral: NDArray[np.bool_]
    """(T, M) counts as if it were not there: found a difficult box, a crowd, ..."""
    truth_images: NDArray[np.int64]
    """(P,) place of the picture of each box to be found; difficult ones and crowds are none."""


def curve(
    ranking: Ranking, threshold: int, weights: Optional[Floats] = None
) -> Tuple[Floats, Floats]:
    """Recall and precision after each detection; there must be something to find.

    Args:
        ranking: of one class.
        threshold: index of the IoU threshold.
        weights: (I,) how often each picture counts; once where None.

    Returns:
        recall (M,) and precision (M,).
    """
    counts = 1.0 if weights is None else weights[ranking.images]
    found = np.cumsum(ranking.hits[threshold] * counts)
    tried = np.cumsum(~ranking.neutral[threshold] * counts)
    precision = found / np.maximum(tried, np.finfo(np.float64).eps)
    return found / wanted(ranking, weights), precision


def wanted(ranking: Ranking, weights: Optional[Floats]) -> float:
    """How many boxes there are to find."""
    if weights is None:
        return float(len(ranking.truth_images))
    return float(weights[ranking.truth_images].sum())


def average_precision(
    ranking: Ranking, threshold: int, rule: Rule, weights: Optional[Floats] = None
) -> float:
    """One class's AP by a rule; NaN where there is nothing to find, 0 where nothing was found."""
    if wanted(ranking, weights) == 0:
        return float("nan")
    if not len(ranking.scores):
        return 0.0
    return rule(*curve(ranking, threshold, weights))


def average(values: Sequence[float]) -> float:
    """The mean over what is not NaN; NaN where all is."""
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def best_f1(ranking: Ranking, threshold: int) -> Tuple[float, float, float]:
    """Precision, recall and score where their harmonic mean is highest; zeros where nothing was
    found, NaN where there was nothing to find.
    """
    if not len(ranking.truth_images):
        return float("nan"), float("nan"), float("nan")
    if not len(ranking.scores):
        return 0.0, 0.0, 0.0
    recall, precision = curve(ranking, threshold)
    total = np.maximum(precision + recall, np.finfo(np.float64).eps)
    best = int(np.argmax(precision * recall / total))
    return float(precision[best]), float(recall[best]), float(ranking.scores[best])
