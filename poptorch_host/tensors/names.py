"""Names of a graph's tensors, as PopART would make them: `fc2/MatMul:0`, `layer1/0/Relu:0/1`.

A name is the path of modules (and `NameScope`s) that are being called, the kind of operator in
PopART's words, the number of the result, and a counter if that is taken. Capture and runs give
the same names because both go through a `Namer`. Best effort: where PopTorch makes an operator of
others than torch does, or torch takes another way in a run than in a capture, names differ.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..options import Options

Take = Callable[[str, Tensor, Callable[[], Tensor]], None]
"""Gets a name, a tensor of the shape and dtype, and a function that returns the tensor itself."""

Shapes = Dict[str, Tuple[Tuple[int, ...], torch.dtype]]
"""Tensors by name, in the order in which they are computed."""

_KINDS: Dict[str, str] = {
    **dict.fromkeys(["mm", "bmm", "matmul", "mv", "dot", "baddbmm"], "MatMul"),
    **dict.fromkeys(["convolution", "_convolution", "mkldnn_convolution"], "Conv"),
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "flatten", "squeeze"], "Reshape"),
    **dict.fromkeys(["unsqueeze", "alias", "view_as"], "Reshape"),
    **dict.fromkeys(["t", "transpose", "permute", "numpy_T"], "Transpose"),
    **dict.fromkeys(["cat", "stack"], "Concat"),
    **dict.fromkeys(["slice", "select", "narrow"], "Slice"),
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "unbind"], "Split"),
    **dict.fromkeys(["gather", "index_select", "embedding", "index"], "Gather"),
    **dict.fromkeys(["max_pool1d", "max_pool2d", "max_pool3d"], "MaxPool"),
    **dict.fromkeys(["max_pool2d_with_indices", "max_pool3d_with_indices"], "MaxPool"),
    **dict.fromkeys(["avg_pool1d", "avg_pool2d", "avg_pool3d"], "AveragePool"),
    **dict.fromkeys(["_adaptive_avg_pool2d", "_adaptive_avg_pool3d"], "AveragePool"),
    **dict.fromkeys(["native_batch_norm", "_native_batch_norm_legit"], "BatchNormalization"),
    **dict.fromkeys(["_native_batch_norm_legit_no_training"], "BatchNormalization"),
    **dict.fromkeys(["_batch_norm_with_update", "cudnn_batch_norm"], "BatchNormalization"),
    **dict.fromkeys(["_batch_norm_no_update"], "BatchNormalization"),
    **dict.fromkeys(["native_layer_norm", "native_group_norm"], "GroupNormalization"),
    **dict.fromkeys(["where", "masked_fill"], "Where"),
    **dict.fromkeys(["topk", "sort"], "TopK"),
    **dict.fromkeys(["clamp", "hardtanh", "clamp_min", "clamp_max"], "Clip"),
    **dict.fromkeys(["max", "amax"], "ReduceMax"),
    **dict.fromkeys(["min", "amin"], "ReduceMin"),
    **dict.fromkeys(["nll_loss_forward", "nll_loss2d_forward"], "Nll"),
    **dict.fromkeys(["sub", "rsub"], "Sub"),
    **dict.fromkeys(["clone", "contiguous", "nop"], "Identity"),
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "prod": "ReduceProd",
    "silu": "Swish",
    "native_dropout": "Dropout",
    "constant_pad_nd": "Pad",
    "upsample_nearest2d": "Resize",
    "upsample_bilinear2d": "Resize",
    "maximum": "Max",
    "minimum": "Min",
    "eq": "Equal",
    "lt": "Less",
    "gt": "Greater",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_not": "Not",
    "cumsum": "CumSum",
    "_to_copy": "Cast",
    "addmv": "MatMul",
}
"""Operators whose kind is not their own name in camel case."""
_UNNAMED = frozenset(["detach", "lift_fresh", "copy_", "set_", "empty", "empty_like"])


class Namer:
    """Names the tensors of one run of `forward` and hands them to `take`."""

    def __init__(self, take: Take, *, modules: bool = True) -> None:
        """Start.

        Args:
            modules: prefix names with the modules that are being called.
        """
        self._take = take
        self._modules = modules
        self._path: List[str] = []
        self._used: Dict[str, int] = {}
        self.paused = 0

    def enter(self, name: str) -> None:
        """A scope begins."""
        self._path.append(name)

    def leave(self) -> None:
        """The latest scope ends."""
        if self._path:
            self._path.pop()

    def enter_module(self, name: str) -> None:
        """A module is called."""
        self._path.append(name if self._modules else "")

    def operator(self, name: str, args: Sequence[Any], results: Sequence[Tensor]) -> None:
        """Name the results of a dispatched operator.

        Args:
            name: `aten::op`; in-place forms with their underscore.
        """
        short = name.partition("::")[2]
        if self.paused or short in _UNNAMED:
            return
        if short == "addmm":  # PopTorch multiplies, then adds
            left, right = args[1], args[2]
            self._name("MatMul", 0, results[0], lambda: torch.mm(left, right))
            self._name("Add", 0, results[0], lambda: results[0])
            return
        self.made(_kind(short, args), results)

    def made(self, kind: str, results: Sequence[Tensor]) -> None:
        """Name the results of an operator of this kind."""
        if self.paused:
            return
        for position, result in enumerate(results):
            self._name(kind, position, result, functools.partial(_itself, result))

    def _name(self, kind: str, position: int, like: Tensor, compute: Callable[[], Tensor]) -> None:
        base = "/".join([*filter(None, self._path), f"{kind}:{position}"])
        count = self._used.get(base, 0)
        self._used[base] = count + 1
        self._take(f"{base}/{count}" if count else base, like, compute)


def listing(shapes: Shapes, options: Options) -> Namer:
    """A namer that writes down every tensor."""

    def take(name: str, like: Tensor, compute: Callable[[], Tensor]) -> None:
        shapes[name] = tuple(like.shape), like.dtype

    return Namer(take, modules=options._module_namescope_enabled)


class _Local(threading.local):
    namer: Optional[Namer] = None


_local = _Local()


def current() -> Optional[Namer]:
    """Who names tensors in this thread now; None unless a capture or an anchored run does."""
    return _local.namer


@contextlib.contextmanager
def naming(namer: Namer) -> Iterator[None]:
    """Let a namer name what this thread computes."""
    before, _local.namer = _local.namer, namer
    try:
        yield
    finally:
        _local.namer = before


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Inside of an operator: what it computes on the way has no names."""
    namer = _local.namer
    if namer is None:
        yield
        return
    namer.paused += 1
    try:
        yield
    finally:
        namer.paused -= 1


def made(kind: str, results: Sequence[Tensor]) -> None:
    """Name the results of an operator that the dispatcher does not show."""
    if _local.namer is not None:
        _local.namer.made(_kind(kind, ()), results)


def follow_modules(model: nn.Module) -> None:
    """Let the modules of a copy of the user's tree tell the namer when they are called."""
    for path, module in model.named_modules():
        if path and not isinstance(module, torch.jit.ScriptModule):
            name = path.rpartition(".")[2]
            module.register_forward_pre_hook(functools.partial(_enter, name), prepend=True)
            module.register_forward_hook(_leave)


def _enter(name: str, module: nn.Module, inputs: object) -> None:
    if _local.namer is not None:
        _local.namer.enter_module(name)


def _leave(module: nn.Module, inputs: object, outputs: object) -> None:
    if _local.namer is not None:
        _local.namer.leave()


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _kind(operator: str, args: Sequence[Any]) -> str:
    """PopART's word for an operator of torch: as listed, else its name in camel case."""
    short = operator.rstrip("_")
    if short == "convolution" and len(args) > 6 and args[6]:
        return "ConvTranspose"
    listed = _KINDS.get(short)
    return listed or "".join(part[:1].upper() + part[1:] for part in short.split("_"))
