"""Batches as large as one call of an executor, out of the micro-batches of a user's sampler."""

from __future__ import annotations

from typing import Iterable, Iterator, List, Sized


class JoinedBatches:
    """A batch sampler that joins `count` micro-batches of another one."""

    def __init__(self, micro_batches: Iterable[List[int]], count: int, drop_last: bool) -> None:
        self._micro_batches = micro_batches
        self._count = count
        self._drop_last = drop_last

    def __iter__(self) -> Iterator[List[int]]:
        joined: List[int] = []
        waiting = 0
        for micro_batch in self._micro_batches:
            joined += micro_batch
            waiting += 1
            if waiting == self._count:
                yield joined
                joined, waiting = [], 0
        if joined and not self._drop_last:
            yield joined

    def __len__(self) -> int:
        assert isinstance(self._micro_batches, Sized)
        length = len(self._micro_batches)
        return length // self._count if self._drop_last else -(-length // self._count)
