"""What a run shows while it goes on: one line, rewritten in place; nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Optional, Sequence, TextIO

__all__ = ["Progress", "table"]

INTERVAL = 0.2  # seconds between two redraws: a terminal over a network is slow
MEASURED = 3  # counted before a rate means something


class Progress:
    """`128/412 0.79 img/s eta 5:59`, on a terminal only.

    Args:
        total: what `advance` counts up to.
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
        self.file = file or sys.stderr
        self.total = total
        self.unit = unit
        self.done = 0
        self.silent = quiet or not self.file.isatty()
        self.start = self.drawn = time.perf_counter()

    def advance(self, count: int, note: str = "") -> None:
        """Count, and redraw."""
        self.show(self.done + count, self.total, note)

    def show(self, done: int, total: int, note: str = "") -> None:
        """Set the count, and redraw."""
        self.done, self.total = done, total
        now = time.perf_counter()
        if self.silent or (now - self.drawn < INTERVAL and done < total):
            return
        self.drawn = now
        text = f"{done}/{total or '?'}"
        if done >= MEASURED:
            rate = done / (now - self.start)
            text += f" {rate:.2f} {self.unit}/s eta {clock(max(0, total - done) / rate)}"
        self.file.write(f"\r\x1b[K{text} {note}".rstrip())
        self.file.flush()

    def clear(self) -> None:
        """Remove the line."""
        if not self.silent:
            self.file.write("\r\x1b[K")
            self.file.flush()


def clock(seconds: float) -> str:
    """`0:07`, `5:59`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
