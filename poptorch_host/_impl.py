"""`poptorch._impl`: what PopTorch's own helpers ask about a capture."""

from __future__ import annotations

from . import _state

__all__ = ["isDispatchTracing", "isRunningOnIpu"]


def isDispatchTracing() -> bool:
    """Whether a model's `forward` is being captured now."""
    return _state.current_capture() is not None


def isRunningOnIpu() -> bool:
    """Whether an executor runs or captures a model's `forward` now."""
    return _state.is_running()
