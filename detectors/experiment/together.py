"""Questions that all processes of a run answer together: may it go on, is the time up."""

from __future__ import annotations

import time
from typing import Callable, Generic, List, Optional, TypeVar

from detectors.experiment.processes import Processes

__all__ = ["Occasionally"]

T = TypeVar("T")
R = TypeVar("R")

SECONDS = 1.0  # between two answers


class Occasionally(Generic[T, R]):
    """A question asked at every step, answered by all processes at the same steps, about once a
    second: each time they wait for each other. In between the last answer holds. One process alone
    answers every time.

    Args:
        processes: that ask; each counts the same steps.
        decide: makes the answer of everybody's values, in the first process.
        seconds: between two answers.
    """

    def __init__(
        self,
        processes: Processes,
        decide: Callable[[List[T]], R],
        *,
        seconds: float = SECONDS,
    ) -> None:
        self.processes = processes
        self.decide = decide
        self.seconds = seconds
        self.answer: Optional[R] = None
        """The last one."""
        self._asked = 0
        self._answered = self._next = 1
        self._at = time.monotonic()

    def ask(self, value: T) -> Optional[R]:
        """The answer of now, or that of before; None before the first."""
        if self.processes.size == 1:
            self.answer = self.decide([value])
            return self.answer
        self._asked += 1
        if self._asked >= self._next:
            self.answer, self._next = self.processes.agree(
                value, lambda values: (self.decide(values), self._when())
            )
        return self.answer

    def _when(self) -> int:
        """The next step to answer at, by the first process's clock; at most twice as far as this
        one was.
        """
        now = time.monotonic()
        gap = max(self._asked - self._answered, 1)
        wanted = int(self.seconds * gap / max(now - self._at, 1e-6))
        self._at, self._answered = now, self._asked
        return self._asked + max(1, min(2 * gap, wanted))
