"""The batch is doubled while that pays."""

from __future__ import annotations

from typing import Dict, List

import pytest

from detectors.experiment.batch_size import best_batch


def search(seconds: Dict[int, float], limit: int = 64) -> List[int]:
    """The batches that were tried, and the one that was chosen at the end."""
    tried: List[int] = []

    def seconds_of(batch: int) -> float:
        tried.append(batch)
        if batch not in seconds:
            raise RuntimeError("out of memory")
        return seconds[batch]

    chosen = best_batch(seconds_of, limit)
    return [*tried, chosen]


def test_a_batch_that_gains_less_than_a_twentieth_is_not_taken() -> None:
    assert search({1: 1.0, 2: 1.2, 4: 2.3}) == [1, 2, 4, 2]


def test_a_batch_that_does_not_fit_ends_the_search() -> None:
    assert search({1: 1.0, 2: 1.0, 4: 1.0}) == [1, 2, 4, 8, 4]


def test_there_are_never_more_than_there_are_images() -> None:
    assert search({1: 1.0, 2: 1.0}, limit=3) == [1, 2, 2]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        search({})
