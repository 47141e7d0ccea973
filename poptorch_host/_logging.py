"""The logger `poptorch::python`: level names, line format and environment variables of PopTorch.

`POPTORCH_LOG_LEVEL` names the level (default WARN); `POPTORCH_LOG_DEST` is `stderr`, `stdout` or a
file. Both are read once, at import.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from typing import Optional, TextIO, Union

TRACE = 5  # below DEBUG
OFF = logging.CRITICAL + 10  # above everything that is logged
_LEVELS = {
    "TRACE_ALL": TRACE,  # PopTorch's developers' own
    "TRACE": TRACE,
    "DEBUG_IR": logging.DEBUG,  # likewise
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERR": logging.ERROR,
    "OFF": OFF,
}
_LEVEL_NUMBERS = {0: "TRACE", 1: "DEBUG", 2: "INFO", 3: "WARN", 4: "ERR", 6: "OFF"}
_SHOWN = {TRACE: "trace", logging.DEBUG: "debug", logging.INFO: "info"}
_SHOWN.update({logging.WARNING: "warning", logging.ERROR: "error", logging.CRITICAL: "critical"})
_COLOURS = {
    "trace": "\x1b[36m",
    "debug": "\x1b[36m",
    "info": "",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31m",
}

logger = logging.getLogger("poptorch::python")


def setLogLevel(level: Union[str, int]) -> None:
    """Set the level of PopTorch's logger.

    Args:
        level: TRACE, DEBUG, INFO, WARN, ERR or OFF, or in that order 0, 1, 2, 3, 4, 6.

    Raises:
        ValueError: neither of these.
    """
    if isinstance(level, int):
        if level not in _LEVEL_NUMBERS:
            raise ValueError(
                f"Invalid log level integer {level}. Valid values are"
                f" {', '.join(map(str, _LEVEL_NUMBERS))}"
            )
        level = _LEVEL_NUMBERS[level]
    if level not in _LEVELS:
        raise ValueError(
            f"Unknown log level: {level}. Valid values are DEBUG, ERR, INFO, OFF, TRACE and WARN"
        )
    logger.setLevel(_LEVELS[level])


def set_max_repeat_logs(limit: Optional[int]) -> None:
    """Cut a message after that many repeats; None never does (`Options.maxRepeatLogs`)."""
    _repeats.limit = limit


class _Format(logging.Formatter):
    """`[12:34:56.789] [poptorch::python] [warning] text`; the level in colour on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        time = f"{self.formatTime(record, '%H:%M:%S')}.{int(record.msecs):03d}"
        level = _SHOWN.get(record.levelno, record.levelname.lower())
        if _COLOURS.get(level) and _on_terminal():
            level = f"{_COLOURS[level]}{level}\x1b[0m"
        text = f"[{time}] [{record.name}] [{level}] {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _Repeats(logging.Filter):
    """Lets a message through `limit` times, the last time with a note."""

    def __init__(self) -> None:
        super().__init__()
        self.limit: Optional[int] = 4
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if self.limit is None:
            return True
        text = record.getMessage()
        self._seen[text] += 1
        if self._seen[text] == self.limit + 1:
            record.msg, record.args = text + " (repeated: further lines are not shown)", ()
        return self._seen[text] <= self.limit + 1


class _Standard(logging.Handler):
    """Writes to what `sys.stderr` or `sys.stdout` is now, not to what it was at import."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = _stream()
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except (OSError, ValueError):  # a closed stream at interpreter exit
            self.handleError(record)


def _stream() -> TextIO:
    return sys.stdout if _DESTINATION == "stdout" else sys.stderr


def _on_terminal() -> bool:
    return _DESTINATION in ("stderr", "stdout") and _stream().isatty()


def _handler() -> logging.Handler:
    if _DESTINATION in ("stderr", "stdout"):
        return _Standard()
    return logging.FileHandler(_DESTINATION, delay=True)


_DESTINATION = os.environ.get("POPTORCH_LOG_DEST", "stderr")
_repeats = _Repeats()
if not logger.handlers:
    _first = _handler()
    _first.setFormatter(_Format())
    _first.addFilter(_repeats)
    logger.addHandler(_first)
    setLogLevel(os.environ.get("POPTORCH_LOG_LEVEL", "WARN"))
