"""Whether a model runs inside an executor now, and who watches it: a capture or an export.

`running()` is entered by the executor around `forward`: once under fake tensors (with a capture),
perhaps once more to make a graph of it (with an exporter), and again for each micro-batch (with
neither). Everything that behaves differently on the device asks here.

Random numbers depend on the micro-batch and the block alone: each block that begins while a
micro-batch with a seed runs seeds them anew, so they are the same wherever its stage runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterator,
    List,
    NoReturn,
    Optional,
    Protocol,
    Sequence,
)

import torch

if TYPE_CHECKING:
    from .ops.overlap import OverlapRecord

__all__ = [
    "CaptureHooks",
    "ExportHooks",
    "LossHooks",
    "begin_block",
    "block_seed",
    "current_capture",
    "exporter",
    "is_recomputing",
    "is_running",
    "losses",
    "recomputing",
    "reseed",
    "running",
    "seed",
]


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


class ExportHooks(Protocol):
    """What is told of things in `forward` that a graph of operators does not show."""

    def begin_block(self, number: int, label: str) -> None:
        """The number-th block of this `forward` begins, known by its label."""

    def checkpoint(self) -> None:
        """What is alive here is kept when a stage recomputes."""

    def call(
        self,
        call: Callable[[List[torch.Tensor]], List[torch.Tensor]],
        inputs: Sequence[torch.Tensor],
        examples: Sequence[torch.Tensor],
    ) -> List[torch.Tensor]:
        """Python that is called each time the graph runs; results are like the examples."""

    def refuse(self, what: str) -> NoReturn:
        """Stop, because this cannot be in a graph.

        Raises:
            poptorch.Error: always.
        """


class _Local(threading.local):
    depth = 0
    capture: Optional[CaptureHooks] = None
    losses: Optional[LossHooks] = None
    exporter: Optional[ExportHooks] = None
    seed: Optional[int] = None
    blocks = 0
    """Begun so far."""
    recomputing = False

    def __init__(self) -> None:
        super().__init__()
        self.turns: Dict[Optional[str], int] = {}
        """How often each id began."""


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


def exporter() -> Optional[ExportHooks]:
    """Who makes a graph of this thread's `forward`; None outside an export."""
    return _local.exporter


def seed() -> Optional[int]:
    """Seed of the micro-batch that this thread runs; None if it draws no random numbers."""
    return _local.seed


def is_recomputing() -> bool:
    """True while activations are computed once more on the way back."""
    return _local.recomputing


def begin_block(user_id: Optional[str]) -> None:
    """A block begins outside a capture: tell the exporter, or seed its random numbers."""
    number, _local.blocks = _local.blocks, _local.blocks + 1
    if _local.exporter is None and _local.seed is None:
        return
    turn = _local.turns.get(user_id, 0)
    _local.turns[user_id] = turn + 1
    label = f"{'' if user_id is None else user_id}#{turn}"
    if _local.exporter is not None:
        _local.exporter.begin_block(number, label)
    else:
        reseed(label)


def reseed(label: str) -> None:
    """Seed random numbers for a block of the micro-batch that runs now, if that has a seed.

    What runs before the first block draws from the micro-batch's seed itself.

    Args:
        label: the block's id, and how often it has begun in this `forward` before.
    """
    if _local.depth and _local.seed is not None:
        torch.manual_seed(block_seed(_local.seed, label))


def block_seed(seed: int, label: str) -> int:
    """Seed of a block in a micro-batch: 63 bits of a hash, the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {label}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextlib.contextmanager
def running(
    capture: Optional[CaptureHooks] = None,
    losses: Optional[LossHooks] = None,
    exporter: Optional[ExportHooks] = None,
    seed: Optional[int] = None,
) -> Iterator[None]:
    """Mark this thread as inside an executor.

    Args:
        capture: watches a run under fake tensors.
        losses: is told of losses, if the model trains.
        exporter: makes a graph of the run.
        seed: of the micro-batch, if it draws random numbers.
    """
    previous = _local.capture, _local.losses, _local.exporter
    outer = _local.seed, _local.blocks, _local.turns
    _local.depth += 1
    _local.capture, _local.losses, _local.exporter = capture, losses, exporter
    _local.seed, _local.blocks, _local.turns = seed, 0, {}
    try:
        yield
    finally:
        _local.depth -= 1
        _local.capture, _local.losses, _local.exporter = previous
        _local.seed, _local.blocks, _local.turns = outer


@contextlib.contextmanager
def recomputing(seed: Optional[int]) -> Iterator[None]:
    """Compute activations of a micro-batch again, with its seed."""
    previous = _local.recomputing
    try:
        with running(seed=seed):
            _local.recomputing = True
            yield
    finally:
        _local.recomputing = previous
