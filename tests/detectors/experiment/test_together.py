"""Questions that all processes answer together; the processes are threads here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Optional

import pytest
import torch.distributed as distributed

from detectors.experiment.meeting_point import MeetingPoint
from detectors.experiment.processes import Processes
from detectors.experiment.together import Occasionally


def test_one_process_is_answered_every_time() -> None:
    question: Occasionally[int, int] = Occasionally(Processes(), max)
    assert [question.ask(number) for number in (3, 5, 4)] == [3, 5, 4]
    assert question.answer == 4


@pytest.mark.skipif(not distributed.is_available(), reason="torch without stores")
@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_processes_get_the_same_answers_at_the_same_steps(seconds: float) -> None:
    point = MeetingPoint(distributed.HashStore())  # type: ignore[attr-defined]  # torch's C++

    def run(rank: int) -> List[Optional[int]]:
        processes = Processes(rank, 2, point=point)
        question: Occasionally[int, int] = Occasionally(processes, max, seconds=seconds)
        return [question.ask(10 * step + rank) for step in range(50)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    asked: Any = [10 * step + 1 for step in range(50)]
    if seconds:  # twice as far each time: at the 1st, 3rd, 7th, 15th and 31st step
        asked = [max(at for at in (1, 21, 61, 141, 301) if at <= value) for value in asked]
    assert first == asked
