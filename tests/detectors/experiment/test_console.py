"""One line on a terminal, nothing anywhere else."""

from __future__ import annotations

import io

import pytest

from detectors.experiment.console import Progress, StatusLine, table


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_nothing_is_written_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with Progress(10, file=file) as progress:
        progress.advance(10)
    assert file.getvalue() == ""


def test_quiet_is_silent_on_a_terminal_too() -> None:
    file = Terminal()
    with Progress(10, file=file, quiet=True) as progress:
        progress.advance(10)
    assert file.getvalue() == ""


def test_a_terminal_sees_the_count_and_gets_its_line_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()

    def stop_after_the_first_batch() -> None:
        with Progress(400, file=file) as progress:
            progress.advance(100, "(2 threads)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_the_first_batch()
    assert "100/400" in file.getvalue()
    assert "(2 threads)" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")  # the line is erased
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h")  # the cursor


def test_a_table_has_its_numbers_to_the_right() -> None:
    text = table(["label", "boxes"], [["cat", "5"], ["hot dog", "12"]])
    assert text == "label    boxes\ncat          5\nhot dog     12"


def test_a_status_line_is_rewritten_and_lines_stay_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    file = Terminal()
    line = StatusLine(file)
    line.show("step 1")
    line.show("step 2 " + "x" * 80)
    line.print("step 2: AP50_voc07 51.2 %")
    line.close()
    line.print("done")
    text = file.getvalue()
    assert text.endswith("\x1b[2Kdone\n")  # the line is erased
    assert "step 2: AP50_voc07 51.2 %\n" in text
    assert "x" * 32 + "…" in text  # cut to the width, never a second line
    assert "x" * 40 not in text


def test_a_status_line_elsewhere_prints_only_what_stays() -> None:
    file = io.StringIO()
    line = StatusLine(file)
    line.show("step 1")
    line.print("step 1: AP50_voc07 51.2 %")
    line.close()
    assert file.getvalue() == "step 1: AP50_voc07 51.2 %\n"
