"""How far a score could be off because the test set is a sample: 95 % intervals by resampling
pictures, and the difference of two detectors on the same pictures.

I pictures, K scores at once. An interval covers the choice of test pictures only, not the seed of a
training.
"""

from __future__ import annotations

from typing import Callable, Iterator, List, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "Measure", "intervals", "paired_difference", "resamples"]

Floats = NDArray[np.float64]

Measure = Callable[[Optional[Floats]], Floats]
"""(I,) how often each picture counts, or None for once -> (K,) scores."""

LOW, HIGH = 2.5, 97.5  # percentiles: 95 % lie between


class Interval(NamedTuple):
    """A score and where it would lie, 95 times in 100, on other pictures of the same kind."""

    value: float
    """On the pictures as they are."""
    low: float
    """2.5th percentile."""
    high: float
    """97.5th."""

    @property
    def covers_zero(self) -> bool:
        """Of a difference: whether the two cannot be told apart."""
        return self.low <= 0 <= self.high


def resamples(images: int, count: int, seed: int) -> Iterator[Floats]:
    """`count` draws of I pictures with replacement, as how often each was drawn."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        drawn = random.integers(images, size=images)
        yield np.bincount(drawn, minlength=images).astype(np.float64)


def intervals(measure: Measure, images: int, *, count: int = 300, seed: int = 0) -> List[Interval]:
    """An interval around each of a measure's K scores.

    A score that is NaN in a resample (its class was not drawn) is left out of that one.

    Args:
        measure: see `Measure`.
        images: I.
        count: resamples; 300 are within about a tenth of the interval's width of many.
        seed: of the resampling.
    """
    return from_draws(
        measure(None), [measure(weights) for weights in resamples(images, count, seed)]
    )


def paired_difference(
    ours: Measure, theirs: Measure, images: int, *, count: int = 300, seed: int = 0
) -> List[Interval]:
    """Intervals around ours - theirs, both measured on the same resampled pictures: what makes a
    picture hard is hard for both and cancels.

    Args:
        ours, theirs: measures of the same K scores on the same pictures.
        images: I.
        count: resamples.
        seed: of the resampling.
    """
    draws = [ours(weights) - theirs(weights) for weights in resamples(images, count, seed)]
    return from_draws(ours(None) - theirs(None), draws)


def from_draws(values: Floats, draws: List[Floats]) -> List[Interval]:
    result = []
    for place, value in enumerate(values):
        column = np.array([draw[place] for draw in draws], dtype=np.float64)
        column = column[~np.isnan(column)]
        if np.isnan(value) or not len(column):
            result.append(Interval(float(value), float("nan"), float("nan")))
        else:
            low, high = np.percentile(column, [LOW, HIGH])
            result.append(Interval(float(value), float(low), float(high)))
    return result
