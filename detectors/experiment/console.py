"""What a run shows while it goes on: one line, rewritten in place; nothing where nobody looks."""

from __future__ import annotations

import io
import sys
from types import TracebackType
from typing import Optional, Sequence, TextIO, Type

from rich import progress as bars
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Progress", "StatusLine", "table"]

WIDTH = 200  # of a table's line, whatever the terminal: rows are copied into mails


class _Rate(bars.ProgressColumn):
    """`0.79 img/s`, or nothing before there is a rate."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f} {self.unit}/s" if speed else "")


class Progress:
    """`128/412 ━━━━ 0.79 img/s 0:05:59`, on a terminal only.

    Args:
        total: what `advance` counts up to; 0 where it is not known yet.
        unit: of what is counted.
        file: where to; silent unless it is a terminal.
        quiet: silent in any case.
    """

    def __init__(
        self,
        total: int,
        *,
        unit: str = "img",
        file: Optional[TextIO] = None,
        quiet: bool = False,
    ) -> None:
        file = file or sys.stderr
        self._bar = bars.Progress(
            bars.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            bars.BarColumn(bar_width=24),
            _Rate(unit),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=Console(file=file),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=quiet or not file.isatty(),
        )
        self._task = self._bar.add_task("", total=total, note="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._bar.stop()

    def advance(self, count: int, note: str = "") -> None:
        """Count."""
        self._bar.update(self._task, advance=count, note=note)

    def show(self, done: int, total: int, note: str = "") -> None:
        """Set the count."""
        self._bar.update(self._task, completed=done, total=total, note=note)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head):
        grid.add_column(Text(name), justify="right" if index else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    output = io.StringIO()
    Console(file=output, width=WIDTH, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


class StatusLine:
    """A line of text that is rewritten in place on a terminal; lines printed meanwhile go above it.

    Args:
        file: where to; silent unless it is a terminal, but for `print`.
    """

    def __init__(self, file: Optional[TextIO] = None) -> None:
        self.file = file or sys.stderr
        self.shown = self.file.isatty()
        self._console = Console(file=self.file)
        self._live: Optional[Live] = None

    def show(self, text: str) -> None:
        """Replace the line; too long a text loses its end."""
        line = Text(text, no_wrap=True, overflow="ellipsis")
        if not self.shown:
            return
        if self._live is None:
            self._live = Live(
                line,
                console=self._console,
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(line, refresh=True)

    def print(self, text: str) -> None:
        """A line that stays."""
        if self._live is None:
            print(text, file=self.file, flush=True)
        else:
            self._console.print(Text(text))

    def close(self) -> None:
        """Take the line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None
