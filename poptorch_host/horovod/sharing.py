"""Tensors, objects and weights of one process on all of them."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

import torch
import torch.distributed as dist

from ..ranks import exchange
from .processes import rank, world

Named = Union[Mapping[str, Any], Iterable[Tuple[str, Any]]]
"""Weights: a `state_dict()`, or the pairs of `named_parameters()`."""


def broadcast(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None) -> torch.Tensor:
    """A new tensor with the values of one process's; all have one shape and dtype.

    Raises:
        ValueError: no such process, or no `init` before.
    """
    return broadcast_(tensor.detach().clone(), root_rank, name)


def broadcast_(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None) -> torch.Tensor:
    """As `broadcast`, into the tensor itself."""
    _fill([tensor], root_rank)
    return tensor


def broadcast_parameters(params: Named, root_rank: int) -> None:
    """Give all processes the weights of one, in place; what is no tensor stays.

    Raises:
        ValueError: neither names with tensors nor pairs of them; no such process; no `init` before.
    """
    if isinstance(params, Mapping):
        pairs = sorted(params.items())
    elif isinstance(params, Iterable):
        pairs = list(params)
    else:
        raise ValueError(f"invalid params of type: {type(params)}")
    _fill([value for _, value in pairs if isinstance(value, torch.Tensor)], root_rank)


def broadcast_object(obj: Any, root_rank: int = 0, name: Optional[str] = None) -> Any:
    """An object of one process, which can be pickled, on all of them."""
    _check(root_rank)
    found = world()
    if found is None:
        return obj
    told: List[Any] = [obj if found.rank == root_rank else None]
    dist.broadcast_object_list(told, root_rank, group=found.everyone)
    return told[0]


def allgather_object(obj: Any, name: Optional[str] = None) -> List[Any]:
    """The objects of all processes, in the order of ranks."""
    found = world()
    if found is None:
        return [obj]
    told: List[Any] = [None] * found.size
    dist.all_gather_object(told, obj, group=found.everyone)
    return told


def broadcast_optimizer_state(optimizer: torch.optim.Optimizer, root_rank: int) -> None:
    """Give all processes the `state_dict()` of one's optimizer."""
    here = rank() == root_rank
    state: Dict[str, Any] = broadcast_object(optimizer.state_dict() if here else None, root_rank)
    if not here:
        optimizer.load_state_dict(state)


def _fill(tensors: List[torch.Tensor], root_rank: int) -> None:
    _check(root_rank)
    found = world()
    if found is None:
        return
    here = found.rank == root_rank
    values = exchange.share_alike(found, root_rank, tensors if here else None, tensors)
    with torch.no_grad():
        for tensor, value in zip([] if here else tensors, values):
            tensor.copy_(value)


def _check(root_rank: int) -> None:
    found = world()
    size = 1 if found is None else found.size
    if not 0 <= root_rank < size:
        raise ValueError(
            f"horovod.torch: root_rank is {root_rank}, but the ranks are 0 to {size - 1}"
        )
