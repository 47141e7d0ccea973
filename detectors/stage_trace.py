"""What one pass through a training does, operator by operator: who makes, uses and keeps what.

The pass runs without numbers (torch's device "meta"), so any size of model takes seconds. What
autograd keeps for the way back is told by its own hooks.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["INPUT", "Made", "Trace", "trace_training"]

DEPTH = 4  # dots in the name of a module that may start a stage: backbone.stages.1.0.depthwise
INPUT = -1  # in place of the operator that made a tensor


class Made(NamedTuple):
    """A memory that one operator makes or that comes from outside; views belong to it."""

    size: int
    """Bytes."""
    shape: Tuple[int, ...]
    """Of the tensor that was made first."""
    maker: int
    """Number of its operator, or INPUT."""
    uses: Tuple[int, ...]
    """Numbers of those that take it, rising."""
    needed: int
    """The first operator whose backward takes it; INPUT where none does."""
    has_gradient: bool
    """Its gradient passes on the way back."""


class Trace(NamedTuple):
    """Operators are numbered as they run."""

    operators: int
    """How many ran."""
    starts: List[Tuple[int, List[str]]]
    """The operator that runs next when these modules start, rising; the first is (0, [])."""
    made: List[Made]
    """Without parameters and buffers."""
    parameters: List[Tuple[int, Tensor]]
    """Each with the operator that uses it first."""
    multiply_adds: List[int]
    """Of each operator; of convolutions and matrix products alone."""


class Recorder(TorchDispatchMode):  # type: ignore[misc,unused-ignore]  # torch has no types here
    """Follows tensors by their memory."""

    def __init__(self, parameters: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.parameters = {key(one): one for one in parameters}
        self.fixed = {*self.parameters, *(key(one) for one in constants)}
        self.with_gradient = {key(one) for one in parameters if one.requires_grad}
        self.first_use: Dict[int, int] = {}  # parameter -> operator
        self.starts: List[Tuple[int, List[str]]] = [(0, [])]
        self.tensors: Dict[int, Tensor] = {}  # nothing is freed: a key is of one memory
        self.copies: Dict[int, Tuple[int, Tensor]] = {}  # what is the same as another on an IPU
        self.maker: Dict[int, int] = {}
        self.uses: Dict[int, List[int]] = {}
        self.needed: Dict[int, int] = {}
        self.multiply_adds: List[int] = []

    def begin(self, name: str) -> None:
        """A module starts; without an operator since the last start both start together."""
        if self.starts[-1][0] == len(self.multiply_adds):
            self.starts[-1][1].append(name)
        else:
            self.starts.append((len(self.multiply_adds), [name]))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        number = len(self.multiply_adds)
        learns = False
        for one in tensors((args, kwargs)):
            memory = self.key(one)
            learns |= memory in self.with_gradient
            if memory in self.parameters:
                self.first_use.setdefault(memory, number)
            if memory not in self.fixed:
                self.enter(one, INPUT)
                self.uses[memory].append(number)
        if func is torch.ops.aten.clone.default:  # in another order, which is a view on an IPU
            self.copies[key(out)] = self.key(args[0]), out
        for one in tensors(out):
            if self.key(one) not in self.fixed and self.key(one) not in self.tensors:
                self.enter(one, number)
                if learns and one.dtype.is_floating_point:
                    self.with_gradient.add(self.key(one))
        self.multiply_adds.append(multiply_adds(func, args, out))
        return out

    def key(self, tensor: Tensor) -> int:
        """The same for all views of a memory, and for copies in another order."""
        own = key(tensor)
        return self.copies[own][0] if own in self.copies else own

    def enter(self, tensor: Tensor, maker: int) -> None:
        memory = self.key(tensor)
        if memory not in self.tensors:
            self.tensors[memory], self.maker[memory], self.uses[memory] = tensor, maker, []

    def keep(self, tensor: Tensor) -> Tensor:
        """What autograd asks to keep: inputs before, results after the operator has run."""
        memory = self.key(tensor)
        if memory in self.tensors:
            maker, number = self.maker[memory], len(self.multiply_adds)
            self.needed.setdefault(memory, maker if maker == number - 1 else number)
        return tensor

    def trace(self) -> Trace:
        """After the pass."""
        made = [
            Made(
                size(one),
                tuple(one.shape),
                self.maker[number],
                tuple(self.uses[number]),
                min(self.needed.get(number, INPUT), len(self.multiply_adds) - 1),
                number in self.with_gradient and self.maker[number] != INPUT,
            )
            for number, one in self.tensors.items()
        ]
        used = [(first, self.parameters[number]) for number, first in self.first_use.items()]
        return Trace(len(self.multiply_adds), self.starts, made, used, self.multiply_adds)


def trace_training(training: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Run forward once.

    Args:
        training: on the device "meta"; parts in half precision are counted as such.
        inputs: of one micro-batch, on "meta".
    """
    recorder = Recorder(list(training.parameters()), list(training.buffers()))

    def hook(name: str) -> Any:
        return lambda module, arguments: recorder.begin(name)

    root = "network."
    handles = [
        module.register_forward_pre_hook(hook(name[len(root) :]))
        for name, module in training.named_modules()
        if name.startswith(root) and name.count(".") <= DEPTH + 1 and any(module.children())
    ]
    keeping = torch.autograd.graph.saved_tensors_hooks(recorder.keep, lambda tensor: tensor)
    try:
        with keeping, recorder:
            training(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return recorder.trace()


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
