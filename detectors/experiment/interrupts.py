"""Ctrl-C and a scheduler's SIGTERM: finish the batch at the first, stop at once at the second."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Dict, Iterator, Optional, Type

__all__ = ["Interrupts", "Terminated"]


class Terminated(BaseException):
    """SIGTERM arrived where nothing could be finished first; like KeyboardInterrupt, no
    `Exception`.
    """


class Interrupts:
    """While open, the first signal is noted if a loop watches `requested`, and raised otherwise.

        with Interrupts() as interrupts:
            build()                      # Ctrl-C raises KeyboardInterrupt, SIGTERM raises
            Terminated with interrupts.deferred():
                for batch in batches:
                    work(batch)
                    if interrupts.requested:
                        break            # a second signal would have raised inside work()

    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested: Optional[signal.Signals] = None
        self._polite = False
        self._before: Dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; 0 if none came."""
        return 0 if self.requested is None else 128 + int(self.requested)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note the first signal in here instead of raising it."""
        self._polite = True
        try:
            yield
        finally:
            self._polite = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and not self._before:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        first, self.requested = self.requested is None, signal.Signals(number)
        if first and self._polite:
            print("\nstopping after this batch; once more stops at once", file=sys.stderr)
            return
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated
