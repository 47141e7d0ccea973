"""The line of the user's code that is being executed, found on the Python stack."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import threading
from typing import Iterator, Sequence, Tuple

import torch

_LIBRARIES = (
    os.path.dirname(torch.__file__) + os.sep,
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    sysconfig.get_path("stdlib") + os.sep,
    "<frozen",
)
_SITE = sysconfig.get_path("purelib") + os.sep  # often inside the standard library's folder


class _Local(threading.local):
    excludes: Tuple[str, ...] = ()


_local = _Local()


@contextlib.contextmanager
def excluding(names: Sequence[str]) -> Iterator[None]:
    """Inside, files whose path holds one of these names are not named as places.

    Args:
        names: of `Options.sourceLocationExcludes`.
    """
    before, _local.excludes = _local.excludes, tuple(names)
    try:
        yield
    finally:
        _local.excludes = before


def user_line() -> str:
    """`file:line` of the innermost frame outside torch, this package and the standard library."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not _is_library(name):
            return f"{name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "<unknown>:0"


def in_a_distribution() -> bool:
    """Whether the user's code called torch.distributions, which is what runs now.

    Its parameters may be tensors of the host, made before `forward`.
    """
    frame = sys._getframe(1)
    while frame is not None and _is_library(frame.f_code.co_filename):
        if str(frame.f_globals.get("__name__")).startswith("torch.distributions."):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def line_that_raised(error: BaseException) -> str:
    """`file:line` of the user's code that an exception came through last, "" if through none."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not _is_library(name):
            found = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _is_library(name: str) -> bool:
    if name.startswith(_LIBRARIES[:2]) or any(part in name for part in _local.excludes):
        return True
    return name.startswith(_LIBRARIES[2:]) and not name.startswith(_SITE)
