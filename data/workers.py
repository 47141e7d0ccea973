"""A loader's processes and the signals that terminals and schedulers send to all of a run."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Optional

__all__ = ["leave_signals"]


def leave_signals(worker: int) -> None:
    """Leave Ctrl-C and the first SIGTERM to the main process: it may need this one's batch to end a
    step in order. For DataLoader's `worker_init_fn`.

    The second SIGTERM works: the main process sends them to workers that do not end by themselves.

    Args:
        worker: its number, of no interest.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, heard)


def heard(number: int, frame: Optional[FrameType]) -> None:
    """The first one."""
    signal.signal(number, signal.SIG_DFL)
