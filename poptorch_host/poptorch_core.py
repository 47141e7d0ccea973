"""`poptorch.poptorch_core`: PopTorch's compiled part, as far as programs touch it."""

from __future__ import annotations

from typing import Union

from . import _logging, _state
from .errors import Error, RecoverableError, UnrecoverableError
from .hardware import ipuHardwareIsAvailable, ipuHardwareVersion

__all__ = [
    "Error",
    "RecoverableError",
    "UnrecoverableError",
    "ipuHardwareIsAvailable",
    "ipuHardwareVersion",
    "isCompilingWithDispatcher",
    "setLogLevel",
    "setPopartLogLevel",
]


def isCompilingWithDispatcher() -> bool:
    """Whether a model's `forward` is being captured now."""
    return _state.current_capture() is not None


def setLogLevel(level: Union[str, int]) -> None:
    """The level of all of PopTorch: here one logger has both halves."""
    _logging.setLogLevel(level)


def setPopartLogLevel(level: Union[str, int]) -> None:
    """The level of PopART, of which there is none here."""
