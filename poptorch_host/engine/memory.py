"""Keep big freed blocks in the process: fresh pages cost more than the arithmetic on them.

glibc returns every block over its mmap threshold to the system when it is freed, and a tensor of
the next micro-batch then faults all its pages in again: 250 000 of them in a call of D0 at batch 8,
against 10 000 once two thresholds are raised.
"""

from __future__ import annotations

import ctypes
import platform
import sys

from .._logging import logger

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_MMAP_SIZES = (1 << 30, 32 << 20)  # older glibc takes at most 32 MiB
_TRIM_SIZE = (1 << 31) - 1  # the largest int

_state = {"done": False}


def keep_big_blocks() -> bool:
    """Raise glibc's thresholds, once per process.

    Returns:
        whether they are raised; False on another C library.
    """
    if _state["done"]:
        return True
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    size = next((size for size in _MMAP_SIZES if mallopt(_M_MMAP_THRESHOLD, size)), 0)
    if not size or not mallopt(_M_TRIM_THRESHOLD, _TRIM_SIZE):
        logger.info("malloc keeps its thresholds: mallopt refused %d", _MMAP_SIZES[-1])
        return False
    _state["done"] = True
    logger.info(
        "malloc keeps blocks up to %d MiB from now on; off with host.configure(keep_memory=False)"
        " or POPTORCH_HOST_KEEP_MEMORY=0",
        size >> 20,
    )
    return True
