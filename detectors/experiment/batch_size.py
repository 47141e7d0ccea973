"""The batch that gives the most images per second, found by doubling."""

from __future__ import annotations

from typing import Callable

__all__ = ["best_batch"]

WORTH = 1.05  # a larger batch must be this much faster: it costs memory and latency


def best_batch(seconds_of: Callable[[int], float], limit: int) -> int:
    """Double the batch while that pays.

    Args:
        seconds_of: time of one call with a batch; may raise MemoryError or RuntimeError when it
            does not fit.
        limit: the largest to try.

    Raises:
        MemoryError, RuntimeError: not even one image fits.
    """
    best, rate = 1, 1 / seconds_of(1)
    batch = 2
    while batch <= limit:
        try:
            new_rate = batch / seconds_of(batch)
        except (MemoryError, RuntimeError):
            break
        if new_rate < WORTH * rate:
            break
        best, rate = batch, new_rate
        batch *= 2
    return best
