"""The number of threads is found out on the first calls, without extra ones."""

from __future__ import annotations

from typing import Dict, Iterator, List

import pytest
import torch

from detectors.experiment.threads import ThreadTrial


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(seconds: Dict[int, List[float]]) -> ThreadTrial:
    trial = ThreadTrial(4)
    trial.saw(99.0)  # the first call compiles and does not count
    while trial.chosen is None:
        trial.saw(seconds[torch.get_num_threads()].pop(0))
    return trial


def test_the_fastest_number_stays() -> None:
    trial = run({4: [3.0, 3.0], 2: [5.0, 1.0], 1: [2.0, 2.0]})  # the better of two calls counts
    assert trial.chosen == 2
    assert torch.get_num_threads() == 2
    assert trial.note == "(2 threads, best of 4/2/1)"


def test_one_thread_is_singular() -> None:
    assert run({4: [3.0, 3.0], 2: [3.0, 3.0], 1: [1.0, 1.0]}).note == "(1 thread, best of 4/2/1)"


def test_nothing_is_said_before_it_is_known() -> None:
    assert ThreadTrial(2).note == ""
