"""The eager engine: a captured model with tensors of its own, run micro-batch by micro-batch.

Its module tree is a copy made at compile, so modes and attributes are those of compile time. On
a CPU convolution weights and four-dimensional inputs are kept channels-last, which changes
results by rounding only.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, ContextManager, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import nn

from .. import _state
from ..capture.program import Program
from ..errors import createPoptorchError
from ..settings import Settings
from ..tensors import half, names
from ..tensors.arguments import Arguments
from ..tensors.clones import Cloner
from ..tensors.ipu_device import IpuDevice
from ..tensors.structure import flatten, rebuild
from .anchors import Anchors

_WIDE = (torch.float64, torch.bfloat16)  # float32 on the device
CHANNELS_LAST_DTYPES = (torch.float32, torch.float16, torch.uint8)
_SEED_STEP = 0x9E3779B97F4A7C15  # odd, so that seeds repeat after 2**64 micro-batches only


class Layout(NamedTuple):
    """Where and how the engine keeps tensors."""

    device: torch.device
    channels_last: bool

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device in its dtype and memory format; itself if it is so already."""
        dtype = torch.float32 if tensor.dtype in _WIDE else tensor.dtype
        if self.channels_last and tensor.dim() == 4 and dtype in CHANNELS_LAST_DTYPES:
            return tensor.to(self.device, dtype, memory_format=torch.channels_last)
        return tensor.to(self.device, dtype)


class Engine:
    """One compiled model on the host."""

    def __init__(
        self,
        pristine: nn.Module,
        program: Program,
        arguments: Arguments,
        replicas: int,
        layout: Layout,
        settings: Settings,
    ) -> None:
        """Copy the weights.

        Args:
            pristine: the module tree as it was before capture, around the host's tensors.
            arguments: of a call; only their nesting and values other than tensors are used.
            replicas: each gets its own buffers if `forward` writes any.
        """
        self.program = program
        self.layout = layout
        self._arguments = arguments
        self._template = flatten(program.outputs)
        self._writes = bool(
            program.written_buffers
            or program.frozen_buffers
            or program.written_inputs
            or program.writes_constants
        )
        own_buffers = bool(program.written_buffers) and replicas > 1
        self._replicas = self._copies(pristine, replicas if own_buffers else 1)
        self._forwards = [_entry(replica.module, settings) for replica in self._replicas]
        self._device_type = layout.device.type
        self._anchors: Optional[Anchors] = None

    def keep(self, anchors: Anchors) -> None:
        """Let tensors of every run be kept from now on."""
        self._anchors = anchors
        if anchors.watches_operators:
            for replica in self._replicas:
                names.follow_modules(replica.module)

    def run(
        self, index: int, inputs: List[torch.Tensor], seed: Optional[int]
    ) -> List[torch.Tensor]:
        """Run one micro-batch.

        Args:
            index: of the micro-batch in the call; chooses the replica.
            inputs: tensors as `Layout.place` gives them, in the arguments' order.
            seed: of this micro-batch's random numbers; None if it draws none.

        Returns:
            the tensors of the result, on the CPU, in its order.
        """
        position = index % len(self._replicas)
        try:
            with self._modes(seed), _state.running(seed=seed):
                outputs = self._forward(position, inputs)
                if self._writes:  # an output may be a buffer that changes after this
                    outputs = [output.clone() for output in outputs]
        finally:
            self._replicas[position].restore()
        if self._anchors is not None:
            self._anchors.finish(self._replicas[position].weights)
        self._check(outputs)
        return outputs if self._device_type == "cpu" else [output.cpu() for output in outputs]

    def _copies(self, pristine: nn.Module, count: int) -> List[Replica]:
        """The module trees that replicas run on."""
        return [Replica(pristine, self.program, self.layout) for _ in range(count)]

    def _forward(self, position: int, inputs: List[torch.Tensor]) -> List[torch.Tensor]:
        tensors = iter(inputs)
        args = [rebuild(value, tensors) for value in self._arguments.args]
        kwargs = {name: rebuild(v, tensors) for name, v in self._arguments.kwargs.items()}
        if self._anchors is None:
            return flatten(self._forwards[position](*args, **kwargs))
        with self._anchors.watching():
            return flatten(self._forwards[position](*args, **kwargs))

    def upload(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers, by name, to every replica."""
        with torch.inference_mode(False), torch.no_grad():
            for replica in self._replicas:
                for name, tensor in weights.items():
                    replica.weights[name].copy_(tensor)
                replica.freeze()

    def download(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers of the first replica into the host's tensors."""
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(self._replicas[0].weights[name])

    def _check(self, outputs: List[torch.Tensor]) -> None:
        same = len(outputs) == len(self._template) and all(
            got.shape == expected.shape for got, expected in zip(outputs, self._template)
        )
        if not same:
            raise createPoptorchError(
                "forward returned tensors of shapes"
                f" {[list(tensor.shape) for tensor in outputs]}, but"
                f" {[list(tensor.shape) for tensor in self._template]} when it was compiled: it"
                " depends on something that is no input and changed since"
            )

    @contextlib.contextmanager
    def _modes(self, seed: Optional[int]) -> Iterator[None]:
        plain = not self.program.uses_half and not self.program.names_ipu and seed is None
        if plain and self._device_type == "cpu" and not self._sees_operators():
            with torch.inference_mode():
                yield
            return
        with contextlib.ExitStack() as stack:
            for mode in self._slow_modes(seed):
                stack.enter_context(mode)
            if seed is not None:
                torch.manual_seed(seed)
            yield

    def _sees_operators(self) -> bool:
        """Whether operators must show after composites are taken apart, as no_grad shows them."""
        return self._anchors is not None and self._anchors.watches_operators

    def _slow_modes(self, seed: Optional[int]) -> List[ContextManager[Any]]:
        modes: List[ContextManager[Any]] = []
        on_cpu = self._device_type == "cpu"
        if seed is not None:
            devices = [] if on_cpu else [self.layout.device]
            modes.append(torch.random.fork_rng(devices=devices))
        if not on_cpu:
            modes.append(self.layout.device)
        apart = (self.program.uses_half and on_cpu) or self._sees_operators()
        modes.append(torch.no_grad() if apart else torch.inference_mode())
        if self.program.uses_half:
            modes += [half.HalfRounding()] if on_cpu else []  # type: ignore[no-untyped-call]
            modes.append(half.InputDtype())
        if self.program.names_ipu:
            modes.append(IpuDevice())
        return modes


class Replica:
    """One copy of the module tree."""

    def __init__(
        self,
        pristine: nn.Module,
        program: Program,
        layout: Layout,
        trained: Optional[Dict[int, nn.Parameter]] = None,
    ) -> None:
        """Copy.

        Args:
            trained: parameters by `id` of the host's, shared with other replicas and added to
                here; None makes frozen ones.
        """

        def own(tensor: torch.Tensor) -> torch.Tensor:
            if trained is not None and id(tensor) in trained:
                return trained[id(tensor)]
            value = layout.place(tensor.detach())
            value = value.clone() if value.data_ptr() == tensor.data_ptr() else value
            if not isinstance(tensor, nn.Parameter):
                return value
            parameter = nn.Parameter(value, trained is not None and tensor.requires_grad)
            if trained is not None:
                trained[id(tensor)] = parameter
            return parameter

        cloner = Cloner(own, isolate=True)
        self.module: nn.Module = cloner.clone(pristine)
        self.weights = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        modules = dict(self.module.named_modules())
        self._attributes: List[Tuple[Dict[str, Any], str, Any]] = [
            (modules[name].__dict__, attribute, modules[name].__dict__.get(attribute, _ABSENT))
            for name, attribute in program.attributes
            if name in modules
        ]
        self._constants: List[torch.Tensor] = []
        if program.writes_constants:
            self._constants = list(cloner.copies_of_attributes().values())
        self._frozen_names = program.frozen_buffers
        self._frozen: List[Tuple[torch.Tensor, torch.Tensor]] = []
        self.freeze()
        self.restore()  # the values kept for restoring stay out of forward's reach

    def freeze(self) -> None:
        """Take the present values of tensors that `forward` changes and the device does not."""
        frozen = [*(self.weights[name] for name in self._frozen_names), *self._constants]
        self._frozen = [(tensor, tensor.clone()) for tensor in frozen]

    def restore(self) -> None:
        """Undo what `forward` set: Python attributes, constants, and buffers that are no floats."""
        for table, name, value in self._attributes:
            if value is _ABSENT:
                table.pop(name, None)
            else:
                table[name] = copy.copy(value) if isinstance(value, (list, dict, set)) else value
        for tensor, value in self._frozen:
            tensor.copy_(value)


_ABSENT = object()


def _entry(module: nn.Module, settings: Settings) -> Any:
    if settings.engine == "eager":
        return module
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 4):
        raise createPoptorchError(
            "host.configure(engine='compile') needs torch 2.4 or later, this is"
            f" {torch.__version__}: use engine='eager'"
        )
    return torch.compile(module, dynamic=False)


def seed_of(seed: int, count: int) -> int:
    """Seed of the count-th micro-batch that an executor runs."""
    return (seed + count * _SEED_STEP) % 2**63
