"""Percentiles, and times per image and per batch kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.experiment.timing import Timings, percentile


@pytest.mark.parametrize("q", [0, 50, 90, 99, 100])
def test_percentiles_are_numpys(q: float) -> None:
    values = np.random.default_rng(0).random(37).tolist()
    assert percentile(values, q) == pytest.approx(float(np.percentile(values, q)))


def test_the_time_of_a_call_is_divided_by_its_images() -> None:
    timings = Timings()
    timings.add("model", 0.8, images=4)
    assert timings.per_batch == [0.8]
    assert timings.per_image["model"] == [0.2] * 4


def test_the_table_has_the_four_parts_in_their_order() -> None:
    timings = Timings()
    for part, seconds in (
        ("read", 0.001),
        ("preprocess", 0.002),
        ("model", 0.03),
        ("postprocess", 0.004),
    ):
        timings.add(part, seconds)
    rows = [line.split() for line in timings.render().splitlines()]
    assert rows[0] == ["ms", "per", "image", "mean", "p50", "p90", "p99"]
    assert [row[0] for row in rows[1:]] == ["read", "preprocess", "model", "postprocess"]
    assert rows[3][1:] == ["30.00"] * 4


def test_warming_up_is_forgotten() -> None:
    timings = Timings()
    with timings.measure("model"):
        pass
    timings.forget()
    assert timings.per_batch == []
    assert timings.per_image["model"] == []
