"""One line on a terminal, nothing anywhere else."""

from __future__ import annotations

import io
import time

import pytest

from detectors.experiment.console import Progress, clock, table


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_nothing_is_written_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    progress = Progress(10, file=file)
    progress.advance(10)
    progress.clear()
    assert file.getvalue() == ""


def test_quiet_is_silent_on_a_terminal_too() -> None:
    file = Terminal()
    progress = Progress(10, file=file, quiet=True)
    progress.advance(10)
    progress.clear()
    assert file.getvalue() == ""


def test_a_terminal_sees_one_line_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 100.0, 200.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    file = Terminal()
    progress = Progress(400, file=file)
    progress.advance(100)
    progress.advance(100, "(2 threads)")
    lines = file.getvalue().split("\r\x1b[K")
    assert lines == ["", "100/400 1.00 img/s eta 5:00", "200/400 1.00 img/s eta 3:20 (2 threads)"]


def test_clock_shows_hours_only_where_there_are_some() -> None:
    assert [clock(7.4), clock(359), clock(3723)] == ["0:07", "5:59", "1:02:03"]


def test_a_table_has_its_numbers_to_the_right() -> None:
    text = table(["label", "boxes"], [["cat", "5"], ["hot dog", "12"]])
    assert text == "label    boxes\ncat          5\nhot dog     12"
