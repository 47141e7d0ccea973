"""Resampled pictures: intervals that hold what they say."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from data.evaluation.intervals import Measure, intervals, paired_difference, resamples

Floats = NDArray[np.float64]


def mean_of(values: Floats) -> Measure:
    def measure(weights: Optional[Floats]) -> Floats:
        return np.array([np.average(values, weights=weights)])

    return measure


def test_a_resample_draws_as_many_pictures_as_there_are() -> None:
    for weights in resamples(50, 3, seed=1):
        assert weights.shape == (50,)
        assert weights.sum() == 50


def test_the_interval_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    (found,) = intervals(mean_of(values), 400, count=2000)
    error = 1.96 * values.std() / np.sqrt(400)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(10.0)
    assert intervals(mean_of(values), 10, seed=3) == intervals(mean_of(values), 10, seed=3)
    assert intervals(mean_of(values), 10, seed=3) != intervals(mean_of(values), 10, seed=4)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(0.5, 0.3, 200)
    ours, theirs = mean_of(hard + 0.01), mean_of(hard + random.normal(0, 0.001, 200))
    (alone,) = intervals(ours, 200)
    (difference,) = paired_difference(ours, theirs, 200)
    assert alone.high - alone.low > 0.05
    assert difference.high - difference.low < 0.001
    assert not difference.covers_zero
    assert paired_difference(ours, ours, 200)[0].covers_zero


def test_a_class_that_is_not_drawn_is_left_out_of_the_draw() -> None:
    def measure(weights: Optional[Floats]) -> Floats:
        seen = weights is None or weights[0] > 0
        return np.array([1.0 if seen else np.nan, np.nan])

    rare, absent = intervals(measure, 3, count=50)
    assert rare == (1.0, 1.0, 1.0)
    assert np.isnan(absent).all()
