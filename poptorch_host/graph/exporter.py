"""What `forward` does beside torch's operators, put into the graph of an export.

A call of Python is one node, which calls its function each time the graph runs, so autograd goes
through it as in eager mode. A marker computes nothing: a block begins, or activations are kept.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Sequence

import torch
from torch import nn

from .. import _state
from ..custom_ops import Like
from ..errors import createPoptorchError

Call = Callable[[List[torch.Tensor]], List[torch.Tensor]]


class PythonCall(nn.Module):
    """One call of Python in a graph."""

    def __init__(self, call: Call, likes: Sequence[Like]) -> None:
        """Keep what to call.

        Args:
            call: takes and returns tensors.
            likes: shapes and dtypes of the results.
        """
        super().__init__()
        self._call = call
        self._likes = list(likes)

    def forward(self, inputs: List[torch.Tensor]) -> List[torch.Tensor]:
        """Call it; in a run for shapes make results that depend on all inputs instead."""
        if not _local.shapes_only:
            return self._call(list(inputs))
        made = self.empty(inputs)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            made = [one.requires_grad_() if one.is_floating_point() else one for one in made]
            made = [one.clone() for one in made]  # results have a history
        return made

    def empty(self, inputs: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Results without values, where the inputs are."""
        device = inputs[0].device if inputs else None
        return [torch.empty(like.shape, dtype=like.dtype, device=device) for like in self._likes]


class Exporter:
    """Puts calls and markers into the graph of one export."""

    def __init__(self) -> None:
        operators()  # declared before the first is used
        self.calls: List[PythonCall] = []
        self.labels: Dict[int, str] = {}
        """Of blocks, by number."""

    def begin_block(self, number: int, label: str) -> None:
        """The number-th block begins."""
        self.labels[number] = label
        operators().begin_block(number)

    def checkpoint(self) -> None:
        """Activations are kept here."""
        operators().checkpoint()

    def call(
        self, call: Call, inputs: Sequence[torch.Tensor], examples: Sequence[torch.Tensor]
    ) -> List[torch.Tensor]:
        """One node for a call of Python."""
        likes = [Like(tuple(example.shape), example.dtype) for example in examples]
        self.calls.append(PythonCall(call, likes))
        results: List[torch.Tensor] = operators().python_call(list(inputs), len(self.calls) - 1)
        return results

    def refuse(self, what: str) -> NoReturn:
        """What chooses by values, or calls the host, has no place in a stage of its own."""
        raise createPoptorchError(
            f"{what} cannot be split into stages or recomputed: run the model in one process"
            " (host.configure(schedule='sequential'), recompute='never')"
        )


@functools.lru_cache(maxsize=None)
def operators() -> Any:
    """The operators, declared at first use: torch 2.0 cannot."""
    kind: Any = torch.library.Library  # torch has no types for it
    library = kind("poptorch_host", "DEF")
    library.define("begin_block(int number) -> ()")
    library.define("checkpoint() -> ()")
    library.define("python_call(Tensor[] inputs, int key) -> Tensor[]")
    library.impl("begin_block", lambda number: None, "CompositeExplicitAutograd")
    library.impl("checkpoint", lambda: None, "CompositeExplicitAutograd")
    library.impl("python_call", _fake_call, "CompositeExplicitAutograd")
    torch.library.register_fake("poptorch_host::python_call", _fake_call, lib=library)
    namespace: Any = torch.ops.poptorch_host
    for marker in (namespace.begin_block, namespace.checkpoint, namespace.python_call):
        torch.fx.node.has_side_effect(marker.default)
    _libraries.append(library)
    return namespace


class _Local(threading.local):
    shapes_only = False


_local = _Local()
_libraries: List[Any] = []  # an operator lives as long as its library


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """While entered calls make tensors of the right shape and call nothing."""
    before, _local.shapes_only = _local.shapes_only, True
    try:
        yield
    finally:
        _local.shapes_only = before


@contextlib.contextmanager
def functions_as_calls(exporter: Exporter) -> Iterator[None]:
    """While entered each `torch.autograd.Function` that `forward` applies becomes a call.

    An export would keep the operators of its forward and forget its backward.
    """
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode

    apply: Any = torch.autograd.Function.__dict__["apply"]

    def traced(cls: Any, *args: Any, **kwargs: Any) -> Any:
        original = apply.__get__(None, cls)
        if get_proxy_mode() is None:  # below the operators that are recorded
            return original(*args, **kwargs)
        positions = [i for i, value in enumerate(args) if isinstance(value, torch.Tensor)]
        with disable_proxy_modes_tracing():
            result = original(*args, **kwargs)
        single = isinstance(result, torch.Tensor)
        members = [result] if single else list(result)
        if not all(isinstance(member, torch.Tensor) for member in members):
            exporter.refuse(f"{cls.__name__}.apply, whose results are not all tensors,")

        def call(tensors: List[torch.Tensor]) -> List[torch.Tensor]:
            values = list(args)
            for position, tensor in zip(positions, tensors):
                values[position] = tensor
            again = original(*values, **kwargs)
            return [again] if single else list(again)

        with disable_proxy_modes_tracing():
            examples = [member.detach() for member in members]
        made = exporter.call(call, [args[i] for i in positions], examples)
        return made[0] if single else tuple(made)

    torch.autograd.Function.apply = classmethod(traced)
    try:
        yield
    finally:
        torch.autograd.Function.apply = apply


def _fake_call(inputs: List[torch.Tensor], key: int) -> List[torch.Tensor]:
    exporter = _state.exporter()
    assert isinstance(exporter, Exporter)
    return exporter.calls[key].empty(inputs)
