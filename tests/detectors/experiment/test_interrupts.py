"""The first signal finishes the batch, the second stops at once."""

from __future__ import annotations

import signal
import threading

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
