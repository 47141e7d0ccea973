"""Memory of stages by estimate, where they are cut and what they keep.

S stages, s = 0 .. S - 1. While a micro-batch is on its way from stage s to the last one and back,
2 (S - 1 - s) others pass stage s of a pipeline, and each leaves there what its way back needs: what
entered and, where the stage is recomputed, the inputs of its checkpoints, else all that autograd
keeps. What only passes a stage waits there once. The way back takes one segment after the other,
from checkpoint to checkpoint, and computes only that once more.
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

from detectors.stage_costs import Costs, StageCost

__all__ = ["TILE_MEMORY", "Method", "Plan", "StagePlan", "plan", "usable"]

TILE_MEMORY = 1472 * 624 * 1024
"""Bytes of a Mk2 IPU: tiles x memory of each."""
REST = 0.2
"""Share for what an estimate leaves out beside the convolutions' temporary data: code, exchange,
imbalance of tiles. A rule of thumb, not a measurement.
"""


class Method(NamedTuple):
    """How a training runs on its stages."""

    recompute: bool
    """Keep only what enters stages and checkpoints."""
    optimizer_tensors: int
    """Of each trained weight, beside its gradient."""


class StagePlan(NamedTuple):
    """One stage; sizes in bytes."""

    cost: StageCost
    checkpoints: Tuple[str, ...]
    """Modules whose inputs are kept."""
    copies: int
    """Micro-batches that wait here, and the one that is there."""
    kept: int
    """What each of them keeps."""
    segment: int
    """What is alive beside it at the fullest moment of the one that is there."""
    memory: int
    """All of it, with weights, gradients and the optimizer's tensors."""


class Plan(NamedTuple):
    """A cut."""

    splits: Tuple[str, ...]
    stages: Tuple[StagePlan, ...]

    @property
    def checkpoints(self) -> List[str]:
        """Of all stages."""
        return [name for stage in self.stages for name in stage.checkpoints]

    @property
    def fullest(self) -> int:
        """Bytes of the fullest stage."""
        return max(stage.memory for stage in self.stages)


def usable(proportion: float) -> float:
    """Share of an IPU for an estimate, beside convolutions that may use `proportion` of it."""
    return 1 - REST - proportion


def copies(stage: int, stages: int) -> int:
    """Micro-batches that have passed a stage of a pipeline and not come back, and one."""
    return 2 * (stages - 1 - stage) + 1


def state(cost: StageCost, optimizer_tensors: int) -> int:
    """Bytes of weights, gradients and the optimizer's tensors."""
    return cost.weights + cost.trained * (1 + optimizer_tensors)


def plan(costs: Costs, splits: Sequence[str], checkpoints: Sequence[str], method: Method) -> Plan:
    """The stages that start at `splits`, which keep the inputs of `checkpoints`.

    Raises:
        ValueError: a module that starts nothing here, or modules in another order than they run.
    """
    starts = units_of(costs, splits, "splits")
    kept = units_of(costs, checkpoints, "checkpoints")
    bounds = [0, *starts, len(costs)]
    stages = [
        stage_plan(costs, bounds[stage : stage + 2], kept, copies(stage, len(bounds) - 1), method)
        for stage in range(len(bounds) - 1)
    ]
    return Plan(tuple(splits), tuple(stages))


def stage_plan(
    costs: Costs, units: Sequence[int], checkpoints: Sequence[int], copies: int, method: Method
) -> StagePlan:
    """The stage of the units `units[0]` .. `units[1]` - 1."""
    first, end = units
    cost = costs.stage(first, end)
    inside = [unit for unit in checkpoints if first < unit < end] if method.recompute else []
    bounds = [first, *inside, end]
    segment = max(costs.peak(a, b) for a, b in zip(bounds, bounds[1:]))
    kept = cost.entering + sum(costs.crossing(b, a, end) for a, b in zip(bounds, inside))
    memory = state(cost, method.optimizer_tensors) + cost.passing + kept * copies + segment
    if not method.recompute:  # of the one that is there it is part of the segment
        all_of_it = costs.kept(first, end)
        memory += all_of_it * (copies - 1)
        kept += all_of_it
    names = tuple(costs.names[unit] for unit in inside)
    return StagePlan(cost, names, copies, kept, segment, memory)


def units_of(costs: Costs, names: Sequence[str], key: str) -> List[int]:
    """Where modules start.

    Raises:
        ValueError: as `plan`.
    """
    unknown = [name for name in names if costs.units.get(name, 0) == 0]
    if unknown:
        raise ValueError(f"pipeline.{key} {unknown}: no stage starts there that can be told")
    units = [costs.units[name] for name in names]
    if units != sorted(set(units)):
        by_order = sorted(names, key=lambda name: costs.units[name])
        raise ValueError(f"pipeline.{key} must be in the order they run, {by_order}")
    return units
