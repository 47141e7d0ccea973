"""How many CPU threads are fastest here, found out on real batches.

More threads than free cores make torch's pool spin: on a shared machine all threads can be several
times slower than one.
"""

from __future__ import annotations

from typing import Dict, List, Optional

import torch

__all__ = ["ThreadTrial"]

WARM_UP = 1  # calls before the first that counts
CALLS = 2  # with each number of threads; the faster one counts


class ThreadTrial:
    """Tries n, n/2 and 1 threads on the first calls, then stays with the best.

    Args:
        most: n; torch's own number by default.
    """

    def __init__(self, most: Optional[int] = None) -> None:
        most = most or torch.get_num_threads()
        self.candidates: List[int] = sorted({most, max(1, most // 2), 1}, reverse=True)
        self.plan = [count for count in self.candidates for _ in range(CALLS)]
        self.seconds: Dict[int, float] = {}
        self.calls = -WARM_UP
        self.chosen: Optional[int] = None
        torch.set_num_threads(self.plan[0])

    def saw(self, seconds: float) -> None:
        """Note how long the call took that has just ended, and set the threads of the next."""
        if self.chosen is not None:
            return
        if self.calls >= 0:
            count = self.plan[self.calls]
            self.seconds[count] = min(seconds, self.seconds.get(count, seconds))
        self.calls += 1
        if self.calls == len(self.plan):
            self.chosen = min(self.candidates, key=lambda count: self.seconds[count])
        torch.set_num_threads(self.chosen or self.plan[max(0, self.calls)])

    @property
    def note(self) -> str:
        """`(1 thread, best of 2/1)` once it is known."""
        if self.chosen is None:
            return ""
        plural = "" if self.chosen == 1 else "s"
        return f"({self.chosen} thread{plural}, best of {'/'.join(map(str, self.candidates))})"
