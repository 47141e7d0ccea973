"""The first signal finishes the batch, the second stops at once."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from typing import Tuple

import pytest

from detectors.experiment.interrupts import Interrupts, Terminated


def test_ctrl_c_outside_a_loop_raises() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_sigterm_outside_a_loop_raises() -> None:
    with Interrupts(), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_in_a_loop_is_noted_and_the_second_raises(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupts() as interrupts:
        assert interrupts.exit_code == 0
        with interrupts.deferred():
            signal.raise_signal(number)
            assert interrupts.requested == number
            assert interrupts.exit_code == code
            assert "stopping after this batch" in capsys.readouterr().err
            with pytest.raises((KeyboardInterrupt, Terminated)):
                signal.raise_signal(number)


def test_after_the_loop_a_signal_raises_again() -> None:
    with Interrupts() as interrupts:
        with interrupts.deferred():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_from_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_ctrl_c_can_be_one_of_ours() -> None:
    with Interrupts(own=True), pytest.raises(Terminated, match="interrupted") as caught:
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130


def test_signals_that_somebody_else_took_are_taken_back() -> None:
    with Interrupts() as interrupts, interrupts.deferred():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupts.take()
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.requested == signal.SIGTERM


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.raise_signal(number)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGINT, signal.SIGINT, signal.SIGTERM), 0),
        ((signal.SIGTERM, signal.SIGTERM), -signal.SIGTERM),
    ],
)
def test_a_worker_leaves_ctrl_c_and_the_first_sigterm_to_its_parent(
    numbers: Tuple[signal.Signals, ...], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with Interrupts(), Interrupts().deferred():
        worker = multiprocessing.get_context("fork").Process(target=send, args=numbers)
        worker.start()
        worker.join()
    assert worker.exitcode == code
    assert capfd.readouterr().err == ""


def test_what_a_launcher_passes_on_counts_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Interrupts(launched=True, announce=False) as interrupts, interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the terminal's and the launcher's
        assert interrupts.exit_code == 130
        assert capsys.readouterr().err == ""  # another process says it
        now[0] += 2.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_process_that_ends_anyway_ignores_signals() -> None:
    with Interrupts() as interrupts, interrupts.ignored():
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.requested is None
