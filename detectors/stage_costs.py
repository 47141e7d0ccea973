"""What the stages of a training cost: parameters, multiply-adds, and memory at its fullest moment.

A unit is what runs from one module's start to the next one's; any run of units is a stage, any run
within a stage a segment: what backward computes once more in one go. `stage_trace` says what each
operator makes, uses and keeps; from that follow, without a second pass, what crosses a border and
how much is alive at any moment of a segment's way forward and back.

An estimate of the graph of an IPU, no compilation: temporary data inside operators, code and
exchange are not in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate
from typing import Dict, List, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from detectors.stage_trace import INPUT, Made, Trace, trace_training

__all__ = ["Costs", "StageCost", "measure_costs"]


class StageCost(NamedTuple):
    """Of one micro-batch; sizes in bytes."""

    parameters: int
    """Numbers, counted where they are used first."""
    weights: int
    """Their size."""
    trained: int
    """Size of those that are trained."""
    multiply_adds: int
    """Of convolutions and matrix products, forward."""
    entering: int
    """What was made before and is used here."""
    passing: int
    """What was made before and is used later, not here."""


class Costs:
    """Of all units.

    Args:
        trace: of one micro-batch.
        borders: the operator that each unit starts with, rising; the first is 0.
        names: the modules that start with each unit.
    """

    def __init__(self, trace: Trace, borders: Sequence[int], names: Sequence[List[str]]) -> None:
        self.trace = trace
        self.names = [min(one, key=len, default="") for one in names]
        """The shortest name of the module that starts each unit; unit 0 starts with the images."""
        self.units = {name: unit for unit, one in enumerate(names) for name in one}
        """Name of a module -> the unit that starts with it."""
        self.borders = [*borders, trace.operators]
        self._sums = summed(trace, self.borders)
        self.crossings = crossings(trace, self.borders)
        self.peaks = peaks(trace, self.borders)

    def __len__(self) -> int:
        return len(self.names)

    def stage(self, first: int, end: int) -> StageCost:
        """The units `first` .. `end` - 1 as one stage."""
        parameters, weights, trained, multiplied = [
            int(row[end] - row[first]) for row in self._sums
        ]
        entering = self.crossing(first, 0, end)
        passing = self.crossing(first, 0, len(self)) - entering
        if not first:
            entering, passing = entering + passing, 0  # all of it comes from the host
        return StageCost(parameters, weights, trained, multiplied, entering, passing)

    def crossing(self, border: int, first: int, end: int) -> int:
        """Bytes made from unit `first` on and before `border`, used from `border` on and before
        `end`; what comes from outside is made before unit 0.
        """
        row, table = first + 1 if first else 0, self.crossings[border]
        return int(table[border + 1, end] - table[row, end])

    def peak(self, first: int, end: int) -> int:
        """Bytes alive at the fullest moment of the segment `first` .. `end` - 1, forward and back:
        what it makes, and gradients of maps. What enters it is not counted.
        """
        return int(self.peaks[first, end])

    def unit(self, operator: int) -> int:
        """Where an operator runs; INPUT of what comes from outside."""
        return bisect_right(self.borders, operator) - 1 if operator != INPUT else INPUT

    def kept(self, first: int, end: int) -> int:
        """Bytes made in the units `first` .. `end` - 1 that their backward needs."""
        low, high = self.borders[first], self.borders[end]
        return sum(
            one.size for one in self.trace.made if low <= one.maker and INPUT < one.needed < high
        )

    def largest(self, first: int, end: int) -> Made:
        """The largest tensor that these units make."""
        low, high = self.borders[first], self.borders[end]
        inside = [one for one in self.trace.made if low <= one.maker < high]
        return max(inside, key=lambda one: one.size)


def measure_costs(training: nn.Module, inputs: Sequence[Tensor]) -> Costs:
    """Run forward once; units start with modules that have parts.

    A module that runs several times starts a unit with its first run, unless another one that runs
    again holds it: a stage that began there would have to be entered twice.

    Args:
        training: on the device "meta"; parts in half precision are counted as such.
        inputs: of one micro-batch, on "meta".
    """
    trace = trace_training(training, inputs)
    runs: Dict[str, List[int]] = defaultdict(list)
    for number, (_, started) in enumerate(trace.starts):
        for name in started:
            runs[name].append(number)
    borders, names = [0], [list(trace.starts[0][1])]
    for number, (operator, started) in enumerate(trace.starts[1:], start=1):
        held = any(one[0] < number <= one[-1] for one in runs.values())
        fresh = [name for name in started if runs[name][0] == number]
        if fresh and not held:
            borders.append(operator)
            names.append(fresh)
    return Costs(trace, borders, names)


def summed(trace: Trace, borders: Sequence[int]) -> List[List[int]]:
    """Parameters, weights, trained, multiply-adds before each border."""
    rows = [[0] * len(borders) for _ in range(4)]
    for first, one in trace.parameters:
        unit, size = bisect_right(borders, first), one.numel() * one.element_size()
        for row, value in zip(rows, (one.numel(), size, size * one.requires_grad)):
            row[unit] += value
    for number, multiplied in enumerate(trace.multiply_adds):
        rows[3][bisect_right(borders, number)] += multiplied
    return [list(accumulate(row)) for row in rows]


def crossings(trace: Trace, borders: Sequence[int]) -> Tensor:
    """Bytes over each border (units, units + 2, units + 1), by unit: made before row (0 = nothing,
    1 = outside alone), used again before column.
    """
    units = len(borders) - 1
    places, sizes = [], []
    for one in trace.made:
        maker = bisect_right(borders, one.maker) - 1 if one.maker != INPUT else INPUT
        before = maker
        for use in sorted({bisect_right(borders, use) - 1 for use in one.uses}):
            places += [(border, maker + 2, use + 1) for border in range(before + 1, use + 1)]
            sizes += [one.size] * (use - before)
            before = max(before, use)
    table = torch.zeros(units, units + 2, units + 1, dtype=torch.int64)
    index = torch.tensor(places, dtype=torch.int64).reshape(-1, 3).unbind(1)
    table.index_put_(index, torch.tensor(sizes, dtype=torch.int64), accumulate=True)
    return table.cumsum_(1).cumsum_(2)


def peaks(trace: Trace, borders: Sequence[int]) -> Tensor:
    """Bytes alive at the fullest moment of each segment (units, units + 1), by first unit and end.

    Forward, all that backward needs gathers, beside what the next operators use. On the way back it
    goes, last made first; gradients of maps come with the last operator that used the map and go
    with the one that made it.
    """
    units, count = len(borders) - 1, trace.operators
    gathered, waiting = ([[0] * (count + 1) for _ in range(units)] for _ in range(2))
    passing, gradients, begun = ([0] * (count + 2) for _ in range(3))
    for one in trace.made:
        if one.maker == INPUT:
            continue
        unit, last = bisect_right(borders, one.maker) - 1, max(one.uses, default=one.maker)
        if one.needed == INPUT:
            passing[one.maker] += one.size
            passing[last + 1] -= one.size
        else:
            gathered[unit][one.maker] += one.size
            waiting[unit][one.needed] += one.size
        if one.has_gradient:
            gradients[one.maker] += one.size
            gradients[last + 1] -= one.size
            begun[one.maker] += one.size

    def from_unit(rows: List[List[int]]) -> Tensor:
        """By the first unit of a segment: what was made from there on, up to each operator."""
        return torch.tensor(rows).cumsum(1).flip(0).cumsum(0).flip(0)

    def highest(table: Tensor) -> Tensor:
        """(units, count + 1) -> (units, units), up to the end of each unit from the row's on."""
        inside = [table[:, low:high].amax(1) for low, high in zip(borders, borders[1:])]
        return torch.stack(inside, 1).triu().cummax(1).values

    alive = torch.tensor(gradients).cumsum(0)[: count + 1]
    forward = from_unit(gathered) + torch.tensor(passing).cumsum(0)[: count + 1]
    entering = alive - torch.tensor(begun)[: count + 1]  # of what was made before
    leaving = entering[torch.tensor(borders[1:])]
    found = torch.maximum(highest(forward) + leaving, highest(from_unit(waiting) + alive))
    return torch.cat([found.new_zeros(units, 1), found], 1)
