"""What the stages of a training cost: parameters, multiply-adds, activations, what passes between.

One pass without numbers (torch's device "meta") through forward says it, for any model and any way
to cut it: what autograd keeps are activations, what a later stage uses passes through all between.
An estimate of the graph of an IPU, no compilation: temporary data, code and exchange are not in it.

A unit is what runs from one module's start to the next one's.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["Costs", "StageCost", "measure_costs"]

DEPTH = 3  # dots in the name of a module that may start a stage: backbone.stages.1.0


INPUT = -1  # in place of the unit that made a tensor


class StageCost(NamedTuple):
    """Of one micro-batch, forward; sizes in bytes."""

    parameters: int
    """Numbers, counted where they are used first."""
    weights: int
    """Their size."""
    trained: int
    """Size of those that are trained."""
    multiply_adds: int
    """Of convolutions and matrix products."""
    kept: int
    """What backward needs of what is made here."""
    entering: int
    """What was made before and is used here or later."""


class Costs:
    """Of all units; any run of them is a stage.

    Args:
        names: the shortest name of the module that starts each unit; unit 0 starts with the images.
        units: name of a module -> the unit that starts with it.
        sums: (5, units): parameters, weights, trained, multiply-adds; bytes that enter.
        kept: (units, units) bytes by who made them and whose backward needs them first.
    """

    def __init__(self, names: List[str], units: Dict[str, int], sums: Tensor, kept: Tensor) -> None:
        self.names = names
        self.units = units
        self._before = torch.cat([sums.new_zeros(5, 1), sums.cumsum(1)], 1).tolist()
        self._entering = sums[4].tolist()
        self._kept = kept.flip(0).cumsum(0).flip(0).cumsum(1).tolist()  # made from, needed up to

    def stage(self, first: int, end: int) -> StageCost:
        """The units `first` .. `end` - 1 as one stage."""
        parameters, weights, trained, multiplied, _ = [
            int(row[end] - row[first]) for row in self._before
        ]
        kept, entering = int(self._kept[first][end - 1]), int(self._entering[first])
        return StageCost(parameters, weights, trained, multiplied, kept, entering)


class Ledger(TorchDispatchMode):  # type: ignore[misc,unused-ignore]  # torch has no types here
    """Who makes, uses and keeps each tensor, by its memory; units are numbered as they start."""

    def __init__(self, parameters: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.starts: List[List[str]] = [[]]
        """Of each unit: the modules that start with it."""
        self.parameters = {key(one): one for one in parameters}
        self.fixed = {*self.parameters, *(key(one) for one in constants)}
        self.used: Dict[int, int] = {}  # parameter -> first unit that uses it
        self.made: Dict[int, int] = {}  # tensor -> the unit that made it
        self.last: Dict[int, int] = {}  # tensor -> the last unit that uses it
        self.kept: Dict[int, int] = {}  # tensor -> the unit whose backward needs it
        self.alive: Dict[int, Tensor] = {}  # nothing is freed: a key is of one memory
        self.multiply_adds = [0]
        self.idle = True

    def begin(self, name: str) -> None:
        """A module starts; without an operator since the last start both start one unit."""
        if not self.idle:
            self.starts.append([])
            self.multiply_adds.append(0)
            self.idle = True
        self.starts[-1].append(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        unit = len(self.starts) - 1
        self.idle = False
        for one in tensors((args, kwargs)):
            if key(one) in self.fixed:
                self.used.setdefault(key(one), unit)
                continue
            self.alive.setdefault(key(one), one)
            self.made.setdefault(key(one), INPUT)
            self.last[key(one)] = unit
        for one in tensors(out):
            if key(one) not in self.fixed:
                self.alive.setdefault(key(one), one)
                self.made.setdefault(key(one), unit)
        self.multiply_adds[unit] += multiply_adds(func, args, out)
        return out

    def keep(self, tensor: Tensor) -> Tensor:
        """What autograd asks to keep."""
        if key(tensor) in self.made:
            self.kept.setdefault(key(tensor), len(self.starts) - 1)
        return tensor

    def costs(self) -> Costs:
        """Units that start with a module that ran again belong to the one before."""
        runs = Counter(name for names in self.starts for name in names)
        units: List[int] = []  # of each start
        names: List[List[str]] = [[]]
        for number, started in enumerate(self.starts):
            once = [name for name in started if runs[name] == 1]
            if once and number:
                names.append(once)
            units.append(len(names) - 1)
        count = len(names)
        sums = torch.zeros(5, count, dtype=torch.int64)
        for number, unit in self.used.items():
            if number in self.parameters:
                one = self.parameters[number]
                sums[0, units[unit]] += one.numel()
                sums[1, units[unit]] += size(one)
                sums[2, units[unit]] += size(one) * one.requires_grad
        for start, multiplied in enumerate(self.multiply_adds):
            sums[3, units[start]] += multiplied
        kept = torch.zeros(count, count, dtype=torch.int64)
        for number, maker in self.made.items():
            here = units[maker] if maker != INPUT else INPUT
            last = units[self.last[number]] if number in self.last else here
            sums[4, here + 1 : last + 1] += size(self.alive[number])
            if number in self.kept and here != INPUT:
                kept[here, units[self.kept[number]]] += size(self.alive[number])
        shortest = [min(one, key=len, default="") for one in names]
        known = {name: unit for unit, one in enumerate(names) for name in one}
        return Costs(shortest, known, sums, kept)


def measure_costs(training: nn.Module, inputs: Sequence[Tensor]) -> Costs:
    """Run forward once. Modules with parts that run once, no deeper than `DEPTH`, start units.

    Args:
        training: on the device "meta"; parts in half precision are counted as such.
        inputs: of one micro-batch, on "meta".
    """
    ledger = Ledger(list(training.parameters()), list(training.buffers()))

    def hook(name: str) -> Any:
        return lambda module, arguments: ledger.begin(name)

    root = "network."
    handles = [
        module.register_forward_pre_hook(hook(name[len(root) :]))
        for name, module in training.named_modules()
        if name.startswith(root) and name.count(".") <= DEPTH + 1 and any(module.children())
    ]
    try:
        with torch.autograd.graph.saved_tensors_hooks(ledger.keep, lambda tensor: tensor), ledger:
            training(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return ledger.costs()


def multiply_adds(func: Any, args: Tuple[Any, ...], out: Any) -> int:
    """Of one operator; 0 where it multiplies no matrices."""
    aten = torch.ops.aten
    if func is aten.convolution.default:
        return int(out.numel() * args[1][0].numel())
    if func is aten.mm.default or func is aten.bmm.default:
        return int(out.numel() * args[0].shape[-1])
    if func is aten.addmm.default:
        return int(out.numel() * args[1].shape[-1])
    return 0


def tensors(tree: Any) -> List[Tensor]:
    """Those in nested arguments or results."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def key(tensor: Tensor) -> int:
    """The same for all views of a memory."""
    return int(tensor.untyped_storage()._cdata)


def size(tensor: Tensor) -> int:
    """Bytes of its memory."""
    return int(tensor.untyped_storage().nbytes())
