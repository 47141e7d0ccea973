"""Memory of pipeline stages by estimate, and the cut whose fullest stage is the least full.

S stages, s = 0 .. S - 1. While a micro-batch is on its way from stage s to the last one and back,
2 (S - 1 - s) others pass stage s, and each leaves there what its way back needs: what entered,
where the stage is recomputed, else all that autograd keeps.
"""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

from detectors.stage_costs import Costs, StageCost

__all__ = ["TILE_MEMORY", "USABLE", "Plan", "best_plan", "plan"]

TILE_MEMORY = 1472 * 624 * 1024
"""Bytes of a Mk2 IPU: tiles x memory of each."""
USABLE = 0.6
"""Share that an estimate may take. The rest is for what it leaves out: temporary data of the
operators, code, exchange, imbalance of tiles. A rule of thumb, not a measurement.
"""
SLACK = 1.1  # a cut may be so much fuller than the least full one to share work out better


class Plan(NamedTuple):
    """A cut."""

    splits: Tuple[str, ...]
    stages: Tuple[StageCost, ...]
    memory: Tuple[int, ...]
    """Bytes on each stage's IPU."""


def stage_memory(
    cost: StageCost, stage: int, stages: int, recompute: bool, optimizer_tensors: int
) -> int:
    """Bytes: weights, gradients and the optimizer's tensors, and what micro-batches leave."""
    copies = 2 * (stages - 1 - stage) + 1
    kept = cost.kept if recompute else cost.kept * copies
    state = cost.weights + cost.trained * (1 + optimizer_tensors)
    return state + cost.entering * copies + kept


def plan(costs: Costs, splits: Sequence[str], recompute: bool, optimizer_tensors: int) -> Plan:
    """The stages that start at `splits`.

    Raises:
        ValueError: a module that starts no stage here, or modules in another order than they run.
    """
    unknown = [name for name in splits if costs.units.get(name, 0) == 0]
    if unknown:
        raise ValueError(f"pipeline.splits {unknown}: no stage starts there that can be told")
    starts = [costs.units[name] for name in splits]
    if starts != sorted(set(starts)):
        by_order = sorted(splits, key=lambda name: costs.units[name])
        raise ValueError(f"pipeline.splits must be in the order they run, {by_order}")
    ends = [*starts, len(costs.names)]
    stages = tuple(costs.stage(first, end) for first, end in zip([0, *starts], ends))
    count = len(stages)
    memory = [
        stage_memory(cost, stage, count, recompute and count > 1, optimizer_tensors)
        for stage, cost in enumerate(stages)
    ]
    return Plan(tuple(splits), stages, tuple(memory))


def best_plan(costs: Costs, count: int, recompute: bool, optimizer_tensors: int) -> Plan:
    """The cut into `count` stages whose fullest is the least full; among those that are at most a
    tenth fuller, the one whose busiest stage has the fewest multiply-adds.

    Raises:
        ValueError: fewer units than stages.
    """
    units = len(costs.names)
    if not 1 <= count <= units:
        raise ValueError(f"{units} modules run one after the other; there are no {count} stages")
    table = {
        (first, end): costs.stage(first, end)
        for first in range(units)
        for end in range(first + 1, units + 1)
    }

    def memory(stage: int, first: int, end: int) -> float:
        cost = table[first, end]
        return stage_memory(cost, stage, count, recompute and count > 1, optimizer_tensors)

    limit = SLACK * least(units, count, memory)[0]

    def work(stage: int, first: int, end: int) -> float:
        fits = memory(stage, first, end) <= limit
        return table[first, end].multiply_adds if fits else float("inf")

    starts = least(units, count, work)[1]
    return plan(costs, [costs.names[unit] for unit in starts], recompute, optimizer_tensors)


def least(
    units: int, count: int, price: Callable[[int, int, int], float]
) -> Tuple[float, List[int]]:
    """The cut whose dearest stage is the cheapest: its price, and where stages 1.. start."""
    best: Dict[int, Tuple[float, List[int]]] = {
        end: (price(0, 0, end), []) for end in range(1, units + 1)
    }
    for stage in range(1, count):
        best = {
            end: min(
                (max(best[first][0], price(stage, first, end)), [*best[first][1], first])
                for first in range(stage, end)
            )
            for end in range(stage + 1, units + 1)
        }
    return best[units]
