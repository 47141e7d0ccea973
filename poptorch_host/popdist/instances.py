"""What the instances of a program do together: wait for each other, or let some act alone.

They meet as the ranks of a pipeline do, through torch.distributed, which torchrun prepares.
"""

from __future__ import annotations

from typing import AbstractSet, Any, Callable, Iterable, List, Optional, TypeVar, Union, overload

import torch
import torch.distributed as dist

from .. import settings
from ..ranks import ranks
from .environment import getInstanceIndex, getNumInstances

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_ALONE = object()
"""The group of an instance that acts alone and waits for nobody."""
_groups: List[Any] = []
"""Process groups of the `execute_on_instances` that run now, innermost last."""


def init() -> None:
    """Let the instances find each other; nothing to do where there is one.

    Raises:
        poptorch.Error: the launcher does not say where they meet.
    """
    if getNumInstances() > 1:
        ranks.join(settings.current(), getInstanceIndex(), getNumInstances())


def synchronize() -> None:
    """Wait until all instances are here; inside `execute_on_instances`, those that take part."""
    group = _groups[-1] if _groups else None
    if getNumInstances() > 1 and group is not _ALONE:
        init()
        dist.all_reduce(torch.zeros(1), group=group)  # a barrier needs GPUs in NCCL groups


@overload
def execute_on_instances(instances: Union[int, Iterable[int]]) -> Callable[[_F], _F]: ...
@overload
def execute_on_instances(
    instances: Union[int, Iterable[int]], func: Callable[..., _T], *args: Any, **kwargs: Any
) -> Optional[_T]: ...
def execute_on_instances(
    instances: Union[int, Iterable[int]],
    func: Optional[Callable[..., Any]] = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call a function on some instances only; what waits inside waits for those only.

    Every instance must come here. Without a function it returns a decorator.

    Args:
        instances: their numbers.

    Returns:
        what the function returns, None on the other instances.

    Raises:
        ValueError: an instance that does not exist.
    """
    numbers = {instances} if isinstance(instances, int) else set(instances)
    if func is None:
        return _decorator(numbers)
    unknown = sorted(numbers - set(range(getNumInstances())))
    if unknown:
        raise ValueError(
            f"popdist.execute_on_instances: instances {unknown} do not exist;"
            f" there are {getNumInstances()}, from 0"
        )
    group = _group_of(numbers)
    if getInstanceIndex() not in numbers:
        return None
    _groups.append(group)
    try:
        return func(*args, **kwargs)
    finally:
        _groups.pop()


def _decorator(numbers: AbstractSet[int]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        def on_instances(*args: Any, **kwargs: Any) -> Any:
            return execute_on_instances(numbers, func, *args, **kwargs)

        on_instances.__name__ = getattr(func, "__name__", "on_instances")
        on_instances.__doc__ = func.__doc__
        return on_instances

    return decorate


def _group_of(numbers: AbstractSet[int]) -> Any:
    if len(numbers) < 2:
        return _ALONE
    if len(numbers) == getNumInstances():
        return None  # everybody
    init()
    return dist.new_group(sorted(numbers), timeout=ranks.FOREVER)
