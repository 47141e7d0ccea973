"""Which process of how many this is, between `init` and `shutdown`."""

from __future__ import annotations

from typing import Dict, Optional

from .. import settings
from ..popdist import environment
from ..ranks import ranks

_WORLD = "world"
_state: Dict[str, Optional[ranks.World]] = {}
"""After `init`: the world, None for a process alone."""


def init() -> None:
    """Let the processes of the launcher find each other, once; a process alone needs nothing.

    Raises:
        poptorch.Error: the launcher does not say where they meet.
    """
    if _WORLD not in _state:
        count = environment.getNumInstances()
        alone = count == 1
        _state[_WORLD] = (
            None if alone else ranks.join(settings.current(), environment.getInstanceIndex(), count)
        )


def shutdown() -> None:
    """Undo `init`; the group stays, executors use it too."""
    _state.clear()


def is_initialized() -> bool:
    """Whether `init` was called."""
    return _WORLD in _state


def world() -> Optional[ranks.World]:
    """The processes of this run, None for one alone.

    Raises:
        ValueError: `init` was not called.
    """
    if _WORLD not in _state:
        raise ValueError("Horovod has not been initialized; use hvd.init().")
    return _state[_WORLD]


def rank() -> int:
    """This process, in [0, size())."""
    found = world()
    return 0 if found is None else found.rank


def size() -> int:
    """Processes that run the program."""
    found = world()
    return 1 if found is None else found.size


def local_rank() -> int:
    """This process among those of its machine."""
    return 0 if world() is None else environment.getLocalInstanceIndex()


def local_size() -> int:
    """Processes of this machine; all of them where the launcher does not say."""
    return 1 if world() is None else environment.count_local_instances()
