"""Processes of one command agree: here they are threads that meet at a store in memory."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Tuple

import pytest
import torch.distributed as distributed

from detectors.experiment import processes as module
from detectors.experiment.interrupts import Terminated
from detectors.experiment.meeting_point import MeetingPoint, reach
from detectors.experiment.processes import OtherFailedError, Processes

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without stores")


def together(size: int, run: Callable[[Processes], Any]) -> Tuple[List[Any], MeetingPoint]:
    """`run` in so many threads; what each returned or raised, and where they met."""
    point = MeetingPoint(distributed.HashStore())  # type: ignore[attr-defined]  # torch's C++

    def one(rank: int) -> Any:
        try:
            return run(Processes(rank, size, point=point))
        except (OtherFailedError, ValueError, Terminated) as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size))), point


def test_one_process_decides_alone_and_needs_no_store() -> None:
    alone = Processes.of_environment({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"})
    assert (alone.rank, alone.size, alone.first) == (0, 1, True)
    assert alone.agree(3, sum) == 3
    assert alone.from_first(lambda: "folder") == "folder"
    assert not alone.tell(1, "nobody hears it")


def test_torchrun_and_poprun_say_which_process_this_is() -> None:
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    poprun = {f"OMPI_COMM_WORLD_{key}": torchrun[name] for key, name in NAMES}
    for environment in (torchrun, poprun):
        found = Processes.of_environment(environment)
        assert (found.rank, found.size, found.local_rank, found.first) == (5, 8, 1, False)


NAMES = (("RANK", "RANK"), ("SIZE", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_RANK"))


def test_all_get_what_the_first_makes_of_everybodys_values() -> None:
    def run(processes: Processes) -> Any:
        first = [processes.agree((processes.rank, turn), list) for turn in range(20)]
        return first, processes.from_first(lambda: f"made by {processes.rank}")

    found, point = together(3, run)
    expected = [[(0, turn), (1, turn), (2, turn)] for turn in range(20)]
    assert found == [(expected, "made by 0")] * 3
    assert not point.has("0/1")  # what was read is forgotten
    assert not point.has("18/reply")


@pytest.mark.parametrize("failing", [0, 2])
def test_a_failure_of_one_ends_all_with_its_words(failing: int) -> None:
    def run(processes: Processes) -> Any:
        processes.agree(None, len)
        if processes.rank == failing:
            return processes.tell(2, "no such file", trace="line 7")
        return processes.agree(None, len)

    found, _ = together(3, run)
    text = "rank 2: no such file" if failing else "no such file"
    others = [error for rank, error in enumerate(found) if rank != failing]
    assert [(str(error), error.exit_code) for error in others] == [(text, 2)] * 2
    assert "line 7" in str(others[0].__cause__)
    assert found[failing] is (failing != 0)  # the first shows it, whoever failed
    assert others[-1].shown
    assert others[0].shown is (failing == 0)


def test_a_mistake_that_all_make_is_shown_by_the_first() -> None:
    found, _ = together(3, lambda processes: processes.tell(2, f"as {processes.rank} sees it"))
    assert found == [False, True, True]


def test_an_error_of_the_deciding_reaches_all() -> None:
    def run(processes: Processes) -> Any:
        def decide(values: List[int]) -> int:
            raise ValueError("disk full")

        try:
            return processes.agree(1, decide)
        except ValueError as error:
            processes.tell(1, str(error))
            raise

    found, _ = together(2, run)
    assert [str(error) for error in found] == ["disk full"] * 2
    assert isinstance(found[1], OtherFailedError)


def test_who_is_told_to_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    def run(processes: Processes) -> Any:
        if processes.rank == 1:
            return None  # it was killed
        processes.interrupts.requested = signal.SIGTERM
        return processes.agree(None, len)

    found, _ = together(2, run)
    assert isinstance(found[0], Terminated)
    assert found[0].exit_code == 143


def test_processes_without_a_place_to_meet_are_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_SIZE", raising=False)
    with pytest.raises(ValueError, match="MASTER_ADDR is not set: torchrun sets both"):
        reach(0, 4)


def test_a_failure_that_the_first_hears_too_late_is_shown_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TO_BE_SHOWN", 0.0)
    told = threading.Event()

    def run(processes: Processes) -> Any:
        if processes.rank == 1:
            shown_by_first = processes.tell(1, "broke")
            told.set()
            return shown_by_first
        assert told.wait(10)
        return processes.agree(None, len)

    found, _ = together(2, run)
    assert found[1] is False  # it shows its error itself
    assert found[0].shown
