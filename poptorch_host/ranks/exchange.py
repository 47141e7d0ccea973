"""Tensors that go from rank to rank past the pipelines: shared by one, or added up over a group."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import torch
import torch.distributed as dist

from .bundle import pack, size_of, unpack
from .ranks import Group, World


def from_rank_zero(world: World, values: List[int]) -> List[int]:
    """The integers of rank 0, on every rank."""
    tensor = torch.tensor(values, dtype=torch.int64)
    dist.broadcast(tensor, 0, group=world.everyone)
    return [int(value) for value in tensor.tolist()]


def share(
    world: World, source: int, tensors: Optional[Dict[str, torch.Tensor]]
) -> Dict[str, torch.Tensor]:
    """Tensors of one rank, by name, on all of them.

    Args:
        source: the rank that has them.
        tensors: there; None on the others.

    Returns:
        copies on the CPU.
    """
    table: List[Any] = [None]
    if tensors is not None:
        table = [[(name, value.shape, value.dtype) for name, value in tensors.items()]]
    dist.broadcast_object_list(table, source, group=world.everyone)
    like = [torch.empty(shape, dtype=dtype, device="meta") for _, shape, dtype in table[0]]
    values = share_alike(world, source, None if tensors is None else list(tensors.values()), like)
    return {name: value for (name, _, _), value in zip(table[0], values)}


def share_alike(
    world: World,
    source: int,
    tensors: Optional[Sequence[torch.Tensor]],
    like: Sequence[torch.Tensor],
) -> List[torch.Tensor]:
    """As `share`, of tensors whose shapes and dtypes every rank knows.

    Args:
        like: meta tensors.
    """
    if not like:
        return []
    if tensors is None:
        buffer = torch.empty(size_of(like), dtype=torch.uint8)
    else:
        buffer = pack([tensor.detach().cpu() for tensor in tensors])
    dist.broadcast(buffer, source, group=world.everyone)
    return unpack(buffer, like)


def add_up(group: Group, tensors: Sequence[torch.Tensor]) -> None:
    """Add float32 tensors over a group, in place, and always in the order of its ranks."""
    if not tensors:
        return
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    flat = _sum(group, flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
        start += tensor.numel()


def _sum(group: Group, flat: torch.Tensor) -> torch.Tensor:
    count = dist.get_world_size(group)
    if count <= 2:  # a sum of two has one order
        dist.all_reduce(flat, group=group)
        return flat
    # Each rank adds up a share of its own and gives it to the others.
    mine = torch.nn.functional.pad(flat, (0, -flat.numel() % count))
    shares = torch.empty_like(mine)
    dist.all_to_all_single(shares, mine, group=group)
    rows = list(shares.view(count, -1))
    total = rows[0].clone()
    for row in rows[1:]:
        total.add_(row)
    dist.all_gather(list(mine.view(count, -1)), total, group=group)
    return mine
