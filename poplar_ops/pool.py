"""Memory of large results, kept for the next result when the last tensor on it is gone.

The system clears every page of new memory: for the 411 MB of 512 x 1024 x 14 x 14 that takes longer
than computing them. Blocks nobody uses are kept up to `limit()` bytes, 512 MiB unless
`DETECTORS_POOL_MB` says otherwise; 0 turns the pool off.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import weakref
from typing import Any, List, Sequence, Tuple

import torch
from torch import Tensor

__all__ = ["empty", "held", "limit", "set_limit"]

VARIABLE = "DETECTORS_POOL_MB"
DEFAULT_MB = 512
SMALLEST = 1 << 22  # bytes; torch's allocator serves smaller results well
PAGE = 1 << 16  # blocks are multiples of it

Block = Tuple[int, Any]  # bytes, ctypes array


class Pool:
    """Free blocks, the latest last."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free: List[Block] = []
        # Reentrant: the collector may return a block while this thread holds the lock.
        self.lock = threading.RLock()

    def take(self, size: int) -> Tuple[Block, bool]:
        """A free block of exactly this size, or a new one; whether it was in use before."""
        with self.lock:
            for i in range(len(self.free) - 1, -1, -1):
                if self.free[i][0] == size:
                    return self.free.pop(i), True
        return (size, (ctypes.c_char * size).from_buffer(mmap.mmap(-1, size))), False

    def give_back(self, block: Block) -> None:
        """Keep the block, and let the oldest go until the limit holds."""
        with self.lock:
            self.free.append(block)
            self.trim()

    def trim(self) -> None:
        """Let the oldest blocks go until the limit holds."""
        with self.lock:
            while self.free and sum(size for size, _ in self.free) > self.limit:
                self.free.pop(0)


def limit_in_bytes(megabytes: str) -> int:
    """Value of `DETECTORS_POOL_MB` -> bytes.

    Raises:
        ValueError: it is not a whole number, or negative.
    """
    if not megabytes.isdecimal():
        raise ValueError(f"{VARIABLE} must be a whole number of MiB, 0 for off, got '{megabytes}'")
    return int(megabytes) << 20


POOL = Pool(limit_in_bytes(os.environ.get(VARIABLE, str(DEFAULT_MB))))


def limit() -> int:
    """Bytes of unused blocks that are kept at most."""
    return POOL.limit


def set_limit(size: int) -> None:
    """Keep at most `size` bytes of unused blocks from now on; 0 turns the pool off.

    Raises:
        ValueError: `size` is negative.
    """
    if size < 0:
        raise ValueError(f"the pool's limit must be 0 bytes (off) or more, got {size}")
    POOL.limit = size
    POOL.trim()


def held() -> int:
    """Bytes of unused blocks that are kept now."""
    with POOL.lock:
        return sum(size for size, _ in POOL.free)


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tuple[Tensor, bool]:
    """An uninitialised CPU tensor, on a block of the pool if it is large and fits the limit.

    Such a tensor is like any other, but its storage cannot be resized.

    Returns:
        the tensor, and whether its memory is known to have been in use before.
    """
    count = math.prod(shape)
    needed = count * torch.empty((), dtype=dtype).element_size()
    size = -(-needed // PAGE) * PAGE
    if needed < SMALLEST or size > POOL.limit:
        return torch.empty(tuple(shape), dtype=dtype), False
    block, is_used = POOL.take(size)
    # The tensor holds `loan` only, so the block comes back when the tensor's storage is freed.
    loan = (ctypes.c_char * size).from_address(ctypes.addressof(block[1]))
    weakref.finalize(loan, POOL.give_back, block).atexit = False
    storage = torch.frombuffer(loan, dtype=dtype, count=count).untyped_storage()
    # Not `.view(shape)`: autograd forbids in-place changes of a result that is a view.
    result: Tensor = torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload]
    return result, is_used
