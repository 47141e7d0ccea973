"""Functions that are called before and after every compilation."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable

from torch.utils.hooks import RemovableHandle

Hook = Callable[[], None]
_before: OrderedDict[int, Hook] = OrderedDict()
_after: OrderedDict[int, Hook] = OrderedDict()


def registerPreCompileHook(hook: Hook) -> RemovableHandle:
    """Call `hook()` before each compilation, until the handle's `remove()`.

    Raises:
        RuntimeError: not callable.
    """
    if not callable(hook):
        raise RuntimeError("Pre-compile hook must be callable")
    return _add(_before, hook)


def registerPostCompileHook(hook: Hook) -> RemovableHandle:
    """Call `hook()` after each compilation, until the handle's `remove()`.

    Raises:
        RuntimeError: not callable.
    """
    if not callable(hook):
        raise RuntimeError("Post-compile hook must be callable")
    return _add(_after, hook)


def run_pre_compile_hooks() -> None:
    """Called by an executor before it compiles."""
    for hook in list(_before.values()):
        hook()


def run_post_compile_hooks() -> None:
    """Called by an executor after it compiled."""
    for hook in list(_after.values()):
        hook()


def _add(hooks: OrderedDict[int, Hook], hook: Hook) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle
