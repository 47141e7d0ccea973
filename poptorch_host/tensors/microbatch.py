"""Cut the inputs of a call into micro-batches and merge their outputs (PopTorch's batching
semantics).

Block k of a call is the k-th slice of the first dimension, of size mb; it runs on replica k mod
R. With T blocks in all and output mode All, EveryN(n), Final or Sum, an output comes back T, T
// n, R or R times along dimension 0.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

import torch

from ..enums import OutputMode
from ..options import Options

_NARROWED = {
    torch.int64: torch.int32,
    torch.float64: torch.float32,
    torch.bfloat16: torch.float32,
}


class Plan(NamedTuple):
    """How one call is cut and merged."""

    micro_batches: int
    """Blocks that run per call, on all replicas: DI * R (* GA in training)."""
    replicas: int
    """R."""
    group: int
    """Replicas that share one block of the input."""
    consecutive: bool
    """Groups are neighbours (0..G-1), else every (R/G)-th replica."""
    mode: OutputMode
    """All, EveryN, Final or Sum."""
    period: int
    """n of EveryN."""
    per_update: int = 0
    """Blocks of one update of the weights, on all replicas: R * GA; 0 in inference."""


def make_plan(options: Options, *, training: bool) -> Plan:
    """The plan of every call under these options."""
    from ..enums import CommGroupType

    accumulation = options.Training.gradient_accumulation if training else 1
    mode = options.output_mode
    if mode == OutputMode.Default:
        mode = OutputMode.Final if training else OutputMode.All
    return Plan(
        micro_batches=options.device_iterations * options.replication_factor * accumulation,
        replicas=options.replication_factor,
        group=options.input_group_size,
        consecutive=options.input_cgt != CommGroupType.Orthogonal,
        mode=OutputMode(mode),
        period=options.output_return_period,
        per_update=options.replication_factor * accumulation if training else 0,
    )


def order(plan: Plan) -> List[int]:
    """The order in which one process runs micro-batches: in an update replica by replica."""
    if not plan.per_update:
        return list(range(plan.micro_batches))
    return [
        index
        for first in range(0, plan.micro_batches, plan.per_update)
        for replica in range(plan.replicas)
        for index in range(first + replica, first + plan.per_update, plan.replicas)
    ]


def block_of_input(index: int, plan: Plan) -> int:
    """Which slice of the inputs micro-batch `index` reads."""
    step, replica = divmod(index, plan.replicas)
    groups = plan.replicas // plan.group
    return step * groups + (replica // plan.group if plan.consecutive else replica % groups)


def input_block(tensor: torch.Tensor, block: int, size: Optional[int]) -> torch.Tensor:
    """Slice `block` of an input, a view; the whole tensor if it has no batch dimension."""
    if size is None or size == tensor.shape[0]:
        return tensor
    return tensor.narrow(0, block * size, size)


def returned(index: int, plan: Plan) -> bool:
    """Whether the outputs of micro-batch `index` are needed (Sum needs all)."""
    if plan.mode == OutputMode.Final:
        return index >= plan.micro_batches - plan.replicas
    if plan.mode == OutputMode.EveryN:
        return (index // plan.replicas + 1) % plan.period == 0
    return True


def merge(outputs: Sequence[torch.Tensor], plan: Plan) -> torch.Tensor:
    """What a call returns for one output.

    Args:
        outputs: its value in each micro-batch for which `returned` holds, in order.

    Returns:
        a contiguous CPU tensor of its own; int64 comes back as int32, float64 and bfloat16 as
        float32. A scalar output gets a dimension when there is more than one of it.
    """
    values = list(outputs)
    if plan.mode == OutputMode.Sum:
        values = [_sum(values[replica :: plan.replicas]) for replica in range(plan.replicas)]
    first = values[0]
    dtype = _NARROWED.get(first.dtype, first.dtype)
    if len(values) == 1:
        merged = torch.empty(first.shape, dtype=dtype)
        return merged.copy_(first)
    shape = first.shape if first.dim() else torch.Size([1])
    merged = torch.empty((len(values) * shape[0], *shape[1:]), dtype=dtype)
    for index, value in enumerate(values):
        merged[index * shape[0] : (index + 1) * shape[0]] = value
    return merged


def _sum(values: List[torch.Tensor]) -> torch.Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
