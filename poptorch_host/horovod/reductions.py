"""Tensors of all processes added up, compared, or put behind each other.

Results are new tensors without a graph; `name`, by which horovod pairs the calls of processes, is
taken and not needed: calls pair by their order.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch
import torch.distributed as dist

from .processes import world

Average, Sum, Min, Max, Product = 0, 1, 3, 4, 5
"""What a reduction does; horovod's numbers."""
_ACTS = {Average: "SUM", Sum: "SUM", Min: "MIN", Max: "MAX", Product: "PRODUCT"}


def allreduce(
    tensor: torch.Tensor,
    average: Optional[bool] = None,
    name: Optional[str] = None,
    *,
    op: Optional[int] = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> torch.Tensor:
    """The reduction of every process's tensor; all have one shape and dtype.

    Args:
        average: older than `op`: True is Average, False is Sum.
        op: Average by default, which rounds integers down.
        prescale_factor: multiplies before.
        postscale_factor: multiplies behind.

    Raises:
        ValueError: both `average` and `op`, an unknown `op`, or no `init` before.
    """
    result = tensor.detach().clone()
    _reduce(result, _act_of(average, op), prescale_factor, postscale_factor)
    return result


def allreduce_(
    tensor: torch.Tensor,
    average: Optional[bool] = None,
    name: Optional[str] = None,
    *,
    op: Optional[int] = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> torch.Tensor:
    """As `allreduce`, into the tensor itself."""
    _reduce(tensor.detach(), _act_of(average, op), prescale_factor, postscale_factor)
    return tensor


def grouped_allreduce(
    tensors: Sequence[torch.Tensor],
    average: Optional[bool] = None,
    name: Optional[str] = None,
    *,
    op: Optional[int] = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> List[torch.Tensor]:
    """`allreduce` of each tensor."""
    results = [tensor.detach().clone() for tensor in tensors]
    for result in results:
        _reduce(result, _act_of(average, op), prescale_factor, postscale_factor)
    return results


def grouped_allreduce_(
    tensors: Sequence[torch.Tensor],
    average: Optional[bool] = None,
    name: Optional[str] = None,
    *,
    op: Optional[int] = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> Sequence[torch.Tensor]:
    """`allreduce_` of each tensor."""
    for tensor in tensors:
        _reduce(tensor.detach(), _act_of(average, op), prescale_factor, postscale_factor)
    return tensors


def allgather(tensor: torch.Tensor, name: Optional[str] = None) -> torch.Tensor:
    """The tensors of all processes behind each other, in the order of ranks.

    Args:
        tensor: [n, ...]; n may differ between processes.

    Raises:
        ValueError: a tensor without dimensions, or no `init` before.
    """
    if tensor.dim() == 0:
        raise ValueError("hvd.allgather takes tensors with a first dimension, got one of shape []")
    found = world()
    mine = tensor.detach()
    if found is None:
        return mine.clone()
    told: List[torch.Tensor] = [mine] * found.size
    dist.all_gather_object(told, mine.cpu(), group=found.everyone)
    return torch.cat(told).to(tensor.device)


def barrier() -> None:
    """Wait until all processes are here."""
    found = world()
    if found is not None:
        dist.all_reduce(torch.zeros(1), group=found.everyone)


def _act_of(average: Optional[bool], op: Optional[int]) -> int:
    if average is not None and op is not None:
        raise ValueError("The op parameter supersedes average. Please provide only one of them.")
    if op is None:
        return Sum if average is False else Average
    if op not in _ACTS:
        raise ValueError(
            "hvd.allreduce: op must be Average, Sum, Min, Max or Product of horovod.torch, got"
            f" {op!r}"
        )
    return op


def _reduce(tensor: torch.Tensor, act: int, before: float, behind: float) -> None:
    found = world()
    with torch.no_grad():
        if before != 1.0:
            tensor.mul_(before)
        if found is not None:
            operator = getattr(dist.ReduceOp, _ACTS[act])
            dist.all_reduce(tensor, op=operator, group=found.everyone)
            if act == Average:
                rounding = None if tensor.is_floating_point() else "floor"
                tensor.div_(found.size, rounding_mode=rounding)
        if behind != 1.0:
            tensor.mul_(behind)
