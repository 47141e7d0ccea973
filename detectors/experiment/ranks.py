"""Where the parts of a recipe's model run: in this process, or a stage on each of torchrun's ranks.

S stages and R replicas take S * R ranks; rank r has stage r % S of replica r // S.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from detectors.experiment.processes import Processes
from detectors.experiment.recipe import Recipe

__all__ = ["Ranks", "ranks_of"]


@dataclass(frozen=True)
class Ranks:
    """The processes of a training run, and what each has of the model."""

    processes: Processes
    """This one among all."""
    stages: int = 1
    """Of the model."""
    replicas: int = 1
    """Of the model."""
    schedule: str = "sequential"
    """sequential: each process has the whole model; 1f1b or gpipe: each has a stage."""

    @property
    def pipelined(self) -> bool:
        """Whether a process has one stage only."""
        return self.schedule != "sequential"

    @property
    def sees_pictures(self) -> bool:
        """Whether this process needs real pictures: its stage is a first one, or it has all."""
        return not self.pipelined or self.processes.rank % self.stages == 0

    def line(self) -> str:
        """`4 ranks: 4 stages x 1 replica, 1f1b`."""
        if not self.pipelined:
            return f"{self.processes.size} ranks, each with the whole model (schedule sequential)"
        stages = f"{self.stages} stage{'' if self.stages == 1 else 's'}"
        replicas = f"{self.replicas} replica{'' if self.replicas == 1 else 's'}"
        return f"{self.processes.size} ranks: {stages} x {replicas}, {self.schedule}"


class Heartbeat:
    """PopTorch's own, of ranks that wait for each other inside of executors."""

    def is_consequence(self, error: BaseException) -> bool:
        """Whether an error says that another rank has gone."""
        from poplar_ops.runtime import poptorch

        return bool(poptorch.host.is_consequence(error))

    def report(self, error: BaseException) -> None:
        """Tell the other ranks, which end within seconds."""
        from poplar_ops.runtime import poptorch

        poptorch.host.report_fault(error)


def ranks_of(recipe: Recipe, processes: Processes) -> Ranks:
    """What runs where; refuses what does not fit before anything is written.

    Args:
        recipe: its stages and replicas.
        processes: as they were started.

    Raises:
        poptorch.Error: this torch has no pipelines.
        ValueError: another number of ranks than stages x replicas, or another launcher or PopTorch
            than stages on ranks need.
    """
    from poplar_ops.runtime import IS_HOST, poptorch

    stages, replicas, size = (
        len(recipe.pipeline.splits) + 1,
        recipe.replication_factor,
        processes.size,
    )
    if size == 1:
        return Ranks(processes, stages, replicas)
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"train.py was started as {size} processes, but not by torchrun: replicas and stages"
            " are settings of one command (replication_factor, pipeline.splits)"
        )
    if not IS_HOST:
        raise ValueError(
            f"train.py was started as {size} processes, but on IPUs one process has all stages and"
            " replicas: start it without torchrun"
        )
    schedule = poptorch.host.configure().schedule
    if schedule == "sequential":
        return Ranks(processes, stages, replicas, schedule)
    if size != stages * replicas:
        raise ValueError(
            f"{size} ranks for {stages} stages x {replicas} replicas = {stages * replicas}: start"
            f" with torchrun --nproc-per-node {stages * replicas},{other_ways(size, stages)}"
            " or with POPTORCH_HOST_SCHEDULE=sequential (each rank trains the whole model, alone)"
        )
    poptorch.host.check_pipelining()
    processes.watch = Heartbeat()
    return Ranks(processes, stages, replicas, "1f1b" if schedule == "auto" else schedule)


def other_ways(size: int, stages: int) -> str:
    """The replicas or stages that the ranks would be right for."""
    if size % stages == 0:
        return f" set replication_factor={size // stages},"
    return f" set pipeline.splits to {size - 1} names,"
