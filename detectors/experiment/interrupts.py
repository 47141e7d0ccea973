"""Ctrl-C and a scheduler's SIGTERM: finish the batch at the first, stop at once at the second."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Dict, Iterator, Optional, Type

__all__ = ["Interrupts", "Terminated"]

ECHO = 1.0  # seconds in which a launcher passes on what the terminal has sent to everybody


class Terminated(BaseException):
    """A signal arrived where nothing could be finished first; like KeyboardInterrupt, no
    `Exception`.
    """

    def __init__(self, number: signal.Signals = signal.SIGTERM, message: str = "") -> None:
        plain = "interrupted" if number == signal.SIGINT else "terminated"
        super().__init__(message or plain)
        self.exit_code = 128 + int(number)
        """As shells report it."""


class Interrupts:
    """While open, the first signal is noted if a loop watches `requested`, and raised otherwise.

        with Interrupts() as interrupts:
            build()                      # Ctrl-C raises KeyboardInterrupt, SIGTERM raises
            Terminated with interrupts.deferred():
                for batch in batches:
                    work(batch)
                    if interrupts.requested:
                        break            # a second signal would have raised inside work()

    Outside the main thread, where Python takes no signals, it does nothing. A process that was
    forked meanwhile, a DataLoader's worker for instance, leaves Ctrl-C and the first SIGTERM, which
    go to the whole group, to this one: the batch that is to be finished may need it.

    Args:
        unit: what is finished first, for the message.
        own: raise `Terminated` for Ctrl-C too, where something between here and the caller has its
            own ideas about KeyboardInterrupt.
        launched: by another program together with others; it may send a signal a second time, and
            the first of them (`announce`) says what happens.
        announce: say that something is finished first.
    """

    def __init__(
        self,
        unit: str = "batch",
        *,
        own: bool = False,
        launched: bool = False,
        announce: bool = True,
    ) -> None:
        self.unit = unit
        self.own = own
        self.launched = launched
        self.announce = announce
        self.requested: Optional[signal.Signals] = None
        self._polite = self._deaf = False
        self._since = 0.0
        self._before: Dict[signal.Signals, Any] = {}
        self._process = os.getpid()

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

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Nothing is left to be finished or ended in here: this process ends anyway."""
        self._deaf = True
        try:
            yield
        finally:
            self._deaf = False

    def take(self) -> None:
        """Take the signals again, after somebody else took them."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._process = os.getpid()
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
        if os.getpid() != self._process:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
            return
        if self._deaf:
            return
        now = time.monotonic()
        if self.requested is not None and self.launched and now - self._since < ECHO:
            return
        first, self.requested, self._since = self.requested is None, signal.Signals(number), now
        if first and self._polite:
            if self.announce:
                text = f"\nstopping after this {self.unit}; once more stops at once"
                print(text, file=sys.stderr)
            return
        if number == signal.SIGINT and not self.own:
            raise KeyboardInterrupt
        raise Terminated(self.requested)
