"""The processes of one run: who they are, their groups, and what they agree on before they meet.

A rank is a process that torchrun started, and every rank runs the whole program. S stages and R
replicas take S * R ranks: rank r is stage r % S of replica r // S. Collectives never time out: who
is lost is found otherwise.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..errors import createPoptorchError
from ..heartbeat import heartbeat
from ..options import Options
from ..settings import Settings

FOREVER = datetime.timedelta(days=30)
"""Of collectives: a stage may honestly compute for hours."""
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_TEXT_BYTES = 160  # of what a rank says it is about to do

Group = Any
"""A torch ProcessGroup; a class of its own before torch 2.2, private in places after."""


class World(NamedTuple):
    """All ranks of the run."""

    rank: int
    size: int
    everyone: Group


@dataclass(frozen=True)
class Mesh:
    """Where this rank stands among the stages and replicas of one model."""

    stages: int
    replicas: int
    rank: int
    world: World
    pipeline: Group
    """The stages of this rank's replica."""
    alike: Group
    """The replicas of this rank's stage."""

    @property
    def stage(self) -> int:
        """Of this rank, from 0."""
        return self.rank % self.stages

    @property
    def replica(self) -> int:
        """Of this rank, from 0."""
        return self.rank // self.stages

    def rank_of(self, stage: int, replica: int) -> int:
        """The rank of a stage of a replica."""
        return replica * self.stages + stage


def size() -> int:
    """How many ranks the run has; 1 without a launcher."""
    if dist.is_available() and dist.is_initialized():
        return int(dist.get_world_size())
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise createPoptorchError(f"WORLD_SIZE must be a positive number of ranks, got {text!r}")
    return int(text)


def wanted(options: Options, settings: Settings) -> bool:
    """Whether a model with these options runs with a stage per rank.

    Raises:
        poptorch.Error: a pipeline schedule is asked for in a run of one rank.
    """
    if options.Distributed.numProcesses > 1 or settings.schedule == "sequential":
        return False
    if size() > 1:
        return True
    if settings.schedule != "auto":
        raise createPoptorchError(
            f"host.configure(schedule={settings.schedule!r}) puts stages on ranks, but this run"
            " has one rank. Start it with torchrun --nproc-per-node N, N = stages x replicas, or"
            " use schedule='auto', which runs the stages of one process in turn"
        )
    return False


def check_pipelining() -> None:
    """Raise poptorch.Error where torch has no pipelines."""
    try:
        from . import pipeline  # noqa: F401  # which imports what it needs
    except ImportError as error:
        raise createPoptorchError(
            "Stages on ranks need torch.distributed.pipelining with micro-batches that are cut"
            f" already, as in torch 2.14; this is torch {torch.__version__} ({error}). With"
            " host.configure(schedule='sequential') or POPTORCH_HOST_SCHEDULE=sequential every rank"
            " runs the whole model"
        ) from error


def join(settings: Settings, rank: int = -1, count: int = -1) -> World:
    """Meet the other ranks, once per process; returns at once afterwards.

    Args:
        rank: this process, else that of the environment.
        count: of processes, else that of the environment.

    Raises:
        poptorch.Error: no launcher said where to meet.
    """
    if "world" not in _joined:
        if not dist.is_available():
            raise createPoptorchError(
                f"Several ranks need torch.distributed, which torch {torch.__version__} was built"
                " without"
            )
        if not dist.is_initialized():
            _initialise(settings, rank, count)
            atexit.register(_leave)  # first, so that it runs after the heartbeat's goodbye
        rank, count = dist.get_rank(), dist.get_world_size()
        heartbeat.start(dist.distributed_c10d._get_default_store(), rank, count)
        everyone = dist.new_group(list(range(count)), timeout=FOREVER)
        _joined["world"] = World(rank, count, everyone)
    return _joined["world"]


def _initialise(settings: Settings, rank: int, count: int) -> None:
    given = {"RANK": rank >= 0, "WORLD_SIZE": count >= 0}
    missing = [name for name in _NEEDED if name not in os.environ and not given.get(name)]
    if missing:
        raise createPoptorchError(
            f"Several ranks meet where a launcher says, but {' and '.join(missing)} are not set:"
            " start the program with torchrun --nproc-per-node N program.py"
        )
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps its store
    store, rank, count = next(rendezvous("env://", rank, count, timeout=FOREVER))
    backend = "cpu:gloo,cuda:nccl" if settings.device.startswith("cuda") else "gloo"
    dist.init_process_group(
        backend,
        store=PrefixStore(f"poptorch_host/{restarts}", store),
        rank=rank,
        world_size=count,
        timeout=FOREVER,
    )


def _leave() -> None:
    """Close the groups before Python ends: gloo's threads abort a process that ends around them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def device(settings: Settings) -> torch.device:
    """This rank's device: of several GPUs on a host the one of LOCAL_RANK."""
    if settings.device != "cuda":
        return torch.device(settings.device)
    local = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(local)
    return local


def mesh(world: World, stages: int, replicas: int) -> Mesh:
    """The groups of a model of this shape; made once per shape, by all ranks together.

    Raises:
        poptorch.Error: the run has another number of ranks.
    """
    if stages * replicas != world.size:
        raise createPoptorchError(
            f"The model has {stages} stages and {replicas} replicas"
            f" (Options().replicationFactor({replicas})), which take {stages * replicas} ranks, one"
            f" each, but this run has {world.size}. Start it with torchrun --nproc-per-node"
            f" {stages * replicas}, or let every rank run the whole model with"
            " host.configure(schedule='sequential')"
        )
    if (stages, replicas) not in _meshes:
        rows = [list(range(first, first + stages)) for first in range(0, world.size, stages)]
        columns = [list(range(stage, world.size, stages)) for stage in range(stages)]
        pipeline, alike = group_of(world.rank, rows), group_of(world.rank, columns)
        _meshes[stages, replicas] = Mesh(stages, replicas, world.rank, world, pipeline, alike)
    found = _meshes[stages, replicas]
    heartbeat.relabel(f"stage {found.stage} of 0-{stages - 1}, replica {found.replica}")
    return found


def group_of(rank: int, members: Sequence[Sequence[int]]) -> Group:
    """Make a group for each list of ranks; all ranks take part, each gets its first one.

    Returns:
        None if the rank is in no list.
    """
    mine: Group = None
    for ranks in members:
        group = dist.new_group(list(ranks), timeout=FOREVER)
        if rank in ranks and mine is None:
            mine = group
    return mine


def agree(world: World, act: str) -> None:
    """Check that all ranks are about to do the same; what they do next, they do together.

    Args:
        act: of this rank, as in "rank 0 ACT"; the first 160 bytes count.

    Raises:
        poptorch.Error: on every rank, when two ranks do different things.
    """
    text = act.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES)
    mine = torch.tensor(list(text), dtype=torch.uint8)
    told = [torch.empty_like(mine) for _ in range(world.size)]
    dist.all_gather(told, mine, group=world.everyone)
    acts = [bytes(one.tolist()).decode(errors="replace").rstrip() for one in told]
    if len(set(acts)) == 1:
        return
    first: Dict[str, int] = {}
    for rank, one in enumerate(acts):
        first.setdefault(one, rank)
    said = ", but ".join(f"rank {rank} {one}" for one, rank in first.items())
    raise createPoptorchError(
        f"The ranks of a pipeline do different things: {said}. A model on several ranks is spread"
        " over all of them: do this on every rank, and only print and write files on rank 0"
    )


@contextlib.contextmanager
def in_step() -> Iterator[None]:
    """Inside, ranks wait for each other: an error of this one is told to the others, which end."""
    try:
        yield
    except Exception as error:
        heartbeat.report(error)
        raise


_joined: Dict[str, World] = {}
_meshes: Dict[Tuple[int, int], Mesh] = {}
