"""The cut into stages, and the checkpoints in them, whose fullest stage is the least full.

U units, L levels: sizes up to which segments are tried. For each level the checkpoints that keep
the least are found from the end of a stage backwards; then the cut is, over all stages and levels.
"""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from detectors.stage_costs import Costs
from detectors.stage_plan import Method, Plan, copies, plan, state

__all__ = ["best_plan"]

LEVELS = 24
SLACK = 1.1  # a cut may be so much fuller than the least full one to share work out better


def best_plan(costs: Costs, count: int, method: Method, fits: float = 0.0) -> Plan:
    """The cut into `count` stages whose fullest is the least full; among those that are at most a
    tenth fuller and still fit, the one whose busiest stage has the fewest multiply-adds, with as
    few checkpoints as keep it so.

    Args:
        costs: of the units.
        count: stages.
        method: how they run.
        fits: bytes that fit; for more than that no cut is preferred to the least full one.

    Raises:
        ValueError: fewer units than stages.
    """
    units = len(costs)
    if not 1 <= count <= units:
        raise ValueError(f"{units} modules run one after the other; there are no {count} stages")
    levels = sizes(costs) if method.recompute else costs.peaks.max()[None].double()
    kept = torch.stack([least_kept(costs, end, levels) for end in range(1, units + 1)], 2)
    memory = [stage_memory(costs, kept, levels, copies(s, count), method) for s in range(count)]
    fullest, _ = cut([table.amin(0) for table in memory])
    limit = max(fullest, min(SLACK * fullest, fits))
    work = multiply_adds(costs)
    never = torch.full_like(work, float("inf"))
    _, starts = cut([torch.where(table.amin(0) <= limit, work, never) for table in memory])
    splits = [costs.names[unit] for unit in starts]
    if not method.recompute:
        return plan(costs, splits, [], method)
    checkpoints: List[str] = []
    bounds = [0, *starts, units]
    for table, first, end in zip(memory, bounds, bounds[1:]):
        fitting = (table[:, first, end - 1] <= limit).nonzero()[:, 0]
        chosen = backwards(costs, first, end, levels[fitting[-1]])
        checkpoints += [costs.names[unit] for unit in complete(costs, first, end, chosen)]
    return plan(costs, splits, checkpoints, method)


def sizes(costs: Costs) -> Tensor:
    """(L,) every size of a segment, or LEVELS from the fullest unit's to that of all units in one
    go, in equal ratios.
    """
    every: Tensor = torch.unique(costs.peaks[costs.peaks > 0]).double()
    if len(every) <= LEVELS:
        return every
    unit = torch.arange(len(costs))
    full = costs.peaks[unit, unit + 1].max().double()
    steps = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    found: Tensor = full * (every[-1] / full) ** steps + 1
    return found


def ahead(costs: Costs, end: int) -> Tensor:
    """Bytes kept at each unit up to `end` (column) of what was made since one before (row), and is
    used before `end`; 0 at the end itself, which keeps nothing.
    """
    unit = torch.arange(end)
    table = costs.crossings[:end, :, end].double()  # (unit, row)
    since = torch.where(unit > 0, unit + 1, unit)
    kept = table[unit, unit + 1] - table[:, since].T
    return torch.cat([kept, kept.new_zeros(end, 1)], 1)


def least_kept(costs: Costs, end: int, levels: Tensor) -> Tensor:
    """(L, U) bytes that checkpoints keep at least from each unit to `end`; inf where none do."""
    kept, peaks = ahead(costs, end), costs.peaks.double()
    best = torch.full((len(levels), len(costs) + 1), float("inf"), dtype=torch.float64)
    best[:, end] = 0
    for first in reversed(range(end)):
        after = slice(first + 1, end + 1)
        fits = peaks[first, after] <= levels[:, None]
        best[:, first] = torch.where(
            fits, kept[first, after] + best[:, after], best.new_tensor(float("inf"))
        ).amin(1)
    best[:, end] = float("inf")
    return best[:, :-1]


def backwards(costs: Costs, first: int, end: int, level: Tensor) -> List[int]:
    """The units where the checkpoints of `least_kept` are."""
    kept, peaks = ahead(costs, end), costs.peaks.double()
    best = torch.cat([least_kept(costs, end, level[None])[0, :end], kept.new_zeros(1)])
    found: List[int] = []
    unit = first
    while unit < end:
        after = slice(unit + 1, end + 1)
        never = best.new_tensor(float("inf"))
        prices = torch.where(peaks[unit, after] <= level, kept[unit, after] + best[after], never)
        unit += 1 + int(prices.argmin())
        found.append(unit)
    return found[:-1]


def complete(costs: Costs, first: int, end: int, chosen: List[int]) -> List[int]:
    """With the units whose inputs are what else crosses: each is the one behind its maker's."""
    found = set(chosen)
    for one in costs.trace.made:
        maker = costs.unit(one.maker)
        if maker < first or not one.uses or not one.has_gradient:
            continue
        used = [use for use in map(costs.unit, one.uses) if use < end]
        if any(maker < unit <= max(used, default=maker) for unit in chosen):
            found.add(maker + 1)
    return sorted(found)


def stage_memory(costs: Costs, kept: Tensor, levels: Tensor, copies: int, method: Method) -> Tensor:
    """(L, U, U) bytes of the stage from row to column."""
    units = len(costs)
    table = torch.full((units, units), float("inf"), dtype=torch.float64)
    for first in range(units):
        for last in range(first, units):
            cost = costs.stage(first, last + 1)
            fixed = state(cost, method.optimizer_tensors) + cost.passing + copies * cost.entering
            if not method.recompute:
                fixed += (copies - 1) * costs.kept(first, last + 1)
            table[first, last] = fixed
    segments = torch.minimum(levels[:, None, None], costs.peaks[:, 1:].double())
    return table + copies * kept + segments


def multiply_adds(costs: Costs) -> Tensor:
    """(U, U) of the stage from row to column."""
    units = len(costs)
    table = torch.zeros(units, units, dtype=torch.float64)
    for first in range(units):
        for last in range(first, units):
            table[first, last] = costs.stage(first, last + 1).multiply_adds
    return table


def cut(prices: List[Tensor]) -> Tuple[float, List[int]]:
    """The cut whose dearest stage is the cheapest: its price, and where stages 1.. start.

    Args:
        prices: of each stage (U, U), from row to column; inf where it cannot be.
    """
    best, starts = prices[0][0], []
    for table in prices[1:]:
        # a stage that starts at row + 1, behind those that end with row
        dearest = torch.maximum(best[:-1, None], table[1:])
        values, first = dearest.min(0)
        starts.append(first + 1)
        best = values
    unit, found = len(best), []
    for first in reversed(starts):
        unit = int(first[unit - 1])
        found.append(unit)
    return float(best[-1]), found[::-1]
