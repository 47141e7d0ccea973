"""Whether a model runs inside an executor now, and the capture that watches it.

`running()` is entered by the executor around `forward`: once under fake tensors (with a capture)
and again for each micro-batch (without one). Everything that behaves differently on the device
asks here.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Iterator, Optional, Protocol, Sequence

import torch

if TYPE_CHECKING:
    from .overlap import OverlapRecord

__all__ = ["CaptureHooks", "LossHooks", "current_capture", "is_running", "losses", "running"]


class CaptureHooks(Protocol):
    """What blocks and PopTorch's own ops tell the capture of one `forward`."""

    multi_conv: bool
    """Whether a `MultiConv` is open."""

    def record(self, name: str) -> None:
        """Count one use of the operator `namespace::name`, which the dispatcher does not show."""

    def begin_block(self, user_id: Optional[str], ipu_id: Optional[int]) -> None:
        """From here on operators belong to this block."""

    def end_block(self) -> None:
        """A `with Block(...)` closed: no block is active until the next one begins."""

    def use_auto_id(self) -> None:
        """Restart the automatic block names at "0"."""

    def next_auto_id(self) -> str:
        """The next automatic block name."""

    def number(self, tensor: torch.Tensor) -> int:
        """The number of a tensor in this capture, from 1."""

    def uses(self, name: str) -> int:
        """How often the operator `namespace::name` was used so far."""

    @property
    def overlaps(self) -> OverlapRecord:
        """What is known of overlapped inputs and outputs."""


class LossHooks(Protocol):
    """What is told of losses while a training executor runs `forward`."""

    def mark(self, name: str, tensor: torch.Tensor) -> None:
        """The function `name` computed a loss."""

    def follow(self, read: Sequence[torch.Tensor], written: Sequence[torch.Tensor]) -> None:
        """An operator that the dispatcher does not show computed tensors from others."""


class _Local(threading.local):
    depth = 0
    capture: Optional[CaptureHooks] = None
    losses: Optional[LossHooks] = None


_local = _Local()


def is_running() -> bool:
    """True while an executor of this thread runs `forward`, in capture or on the engine."""
    return _local.depth > 0


def current_capture() -> Optional[CaptureHooks]:
    """The capture that watches this thread's `forward`, None outside a capture."""
    return _local.capture


def losses() -> Optional[LossHooks]:
    """Who is told of losses in this thread's `forward`; None unless it is being trained."""
    return _local.losses


@contextlib.contextmanager
def running(
    capture: Optional[CaptureHooks] = None, losses: Optional[LossHooks] = None
) -> Iterator[None]:
    """Mark this thread as inside an executor, with or without a capture; `losses` if it trains."""
    previous = _local.capture, _local.losses
    _local.depth += 1
    _local.capture, _local.losses = capture, losses
    try:
        yield
    finally:
        _local.depth -= 1
        _local.capture, _local.losses = previous
