"""`horovod.torch`: what the instances of a PopTorch program tell each other.

PopTorch reduces gradients by itself; programs use horovod for a common start and for figures. The
instances are those of `popdist`, and they meet through torch.distributed. A single process needs no
launcher and no group.
"""

from __future__ import annotations

from typing import NoReturn

from .processes import init, is_initialized, local_rank, local_size, rank, shutdown, size
from .reductions import (
    Average,
    Max,
    Min,
    Product,
    Sum,
    allgather,
    allreduce,
    allreduce_,
    barrier,
    grouped_allreduce,
    grouped_allreduce_,
)
from .sharing import (
    allgather_object,
    broadcast,
    broadcast_,
    broadcast_object,
    broadcast_optimizer_state,
    broadcast_parameters,
)

__all__ = [
    "Average",
    "Max",
    "Min",
    "Product",
    "Sum",
    "allgather",
    "allgather_object",
    "allreduce",
    "allreduce_",
    "barrier",
    "broadcast",
    "broadcast_",
    "broadcast_object",
    "broadcast_optimizer_state",
    "broadcast_parameters",
    "grouped_allreduce",
    "grouped_allreduce_",
    "init",
    "is_initialized",
    "local_rank",
    "local_size",
    "rank",
    "shutdown",
    "size",
]


def __getattr__(name: str) -> NoReturn:
    """Say where the rest of horovod is."""
    hint = "" if name.startswith("__") else "; poptorch_host has a part of horovod only, install it"
    raise AttributeError(f"module 'horovod.torch' has no attribute {name!r}{hint}")
