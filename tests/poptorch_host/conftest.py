"""Fixtures for tests of the host runtime."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import _state, host
from poptorch_host.capture.capture import capture
from poptorch_host.capture.loss import LossCatcher, LossWatch
from poptorch_host.engine.engine import Layout, Replica
from poptorch_host.graph.parts import Part, split
from poptorch_host.tensors.arguments import bind_arguments
from poptorch_host.tensors.half import HalfRounding, InputDtype
from poptorch_host.tensors.structure import flatten

Passed = Tuple[List[torch.Tensor], List[torch.Tensor]]
"""What a part took and what it gave."""


@pytest.fixture
def configure() -> Iterator[Callable[..., object]]:
    """`host.configure`, with the settings put back afterwards."""
    before = host.configure()
    yield host.configure
    host.configure(**dataclasses.asdict(before))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread: for many tiny operators more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> poptorch.Options:
    """Options as they are without an environment."""
    for name in (
        "POPTORCH_CACHE_DIR",
        "POPTORCH_DEFAULT_OPTIONS",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
    ):
        monkeypatch.delenv(name, raising=False)
    return poptorch.Options()


class Calls(nn.Module):
    """A module around a function of tensors."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


@pytest.fixture
def wrap() -> Callable[..., poptorch.PoplarExecutor]:
    """An inference executor around a function of one tensor."""

    def make(
        function: Callable[..., object], options: Optional[poptorch.Options] = None
    ) -> poptorch.PoplarExecutor:
        return poptorch.inferenceModel(Calls(function), options)

    return make


class Stages:
    """A model run in one go, and as parts one after another with separate autograd graphs."""

    def __init__(self, model: nn.Module, *inputs: torch.Tensor, training: bool) -> None:
        self.training = training
        options = poptorch.Options().autoRoundNumIPUs(True)
        options.deviceIterations(1 if training else 8)
        options.Training.gradientAccumulation(16 if training else 1)
        self.arguments = bind_arguments(model.forward, inputs, {})
        self.program = capture(model, self.arguments, options, report_only=False, training=training)
        layout = Layout(torch.device("cpu"), False)
        trees = [Replica(model, self.program, layout, {} if training else None) for _ in range(2)]
        self.eager, self.cut = trees
        self.parts: List[Part] = []

    def split(self, recompute: bool = False) -> List[Part]:
        """The parts, around tensors of their own."""
        self.parts = split(
            self.cut.module,
            self.program,
            self.arguments,
            training=self.training,
            recompute=recompute,
        )
        return self.parts

    def run_eager(self, *inputs: torch.Tensor, seed: int = 0) -> List[torch.Tensor]:
        """Results, in training then the loss; gradients are left in `eager.weights`."""
        catcher = LossCatcher(self.program.loss) if self.program.loss is not None else None
        with contextlib.ExitStack() as stack:
            self._enter(stack, seed)
            if catcher is not None:
                stack.enter_context(LossWatch(catcher))
            with _state.running(losses=catcher, seed=seed):
                outputs = flatten(self.eager.module(*inputs))
            outputs = [output.clone() for output in outputs]
            self.eager.restore()
            if catcher is not None and catcher.loss is not None:
                with _state.running(seed=seed):
                    catcher.loss.backward()  # type: ignore[no-untyped-call]
                outputs.append(catcher.loss)
        for name in self.program.written_buffers:
            self.eager.weights[name].detach_()
        return [output.detach() for output in outputs]

    def forward(self, *inputs: torch.Tensor, seed: int = 0) -> List[Passed]:
        """What each part took and gave, as it is on ranks: cut from the part before."""
        passed = []
        tensors = list(inputs)
        with contextlib.ExitStack() as stack:
            self._enter(stack, seed)
            for part in self.parts:
                check_like(part.inputs, tensors)
                with _state.running(seed=seed):
                    outputs = part.module(*tensors)
                check_like(part.outputs, outputs)
                passed.append((tensors, outputs))
                tensors = [t.detach().clone().requires_grad_(t.requires_grad) for t in outputs]
        return passed

    def backward(self, passed: List[Passed]) -> None:
        """Gradients, left in `cut.weights`."""
        loss = passed[-1][1][-1]
        gradients = [None] * (len(passed[-1][1]) - 1) + [torch.ones_like(loss)]
        with _state.running(), torch.autograd.set_multithreading_enabled(False):
            for inputs, outputs in reversed(passed):
                some = [(o, g) for o, g in zip(outputs, gradients) if g is not None]
                torch.autograd.backward([o for o, _ in some], [g for _, g in some])
                gradients = [tensor.grad for tensor in inputs]
                assert all((g is not None) == t.requires_grad for g, t in zip(gradients, inputs))

    def run_parts(self, *inputs: torch.Tensor, seed: int = 0) -> List[torch.Tensor]:
        """As `run_eager`, part by part."""
        passed = self.forward(*inputs, seed=seed)
        if self.training:
            self.backward(passed)
        return [output.detach() for output in passed[-1][1]]

    def check_equal(self) -> None:
        """Weights, buffers and gradients of both are equal."""
        for name, expected in self.eager.weights.items():
            got = self.cut.weights[name]
            torch.testing.assert_close(got.detach(), expected.detach(), rtol=1e-6, atol=1e-7)
            if expected.grad is not None:
                assert got.grad is not None, name
                torch.testing.assert_close(got.grad, expected.grad, rtol=1e-6, atol=1e-7)
            elif got.grad is not None:
                assert not got.grad.any(), name

    def _enter(self, stack: contextlib.ExitStack, seed: int) -> None:
        stack.enter_context(torch.set_grad_enabled(self.training))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(seed)
        if self.program.uses_half:
            stack.enter_context(HalfRounding())  # type: ignore[no-untyped-call]
            stack.enter_context(InputDtype())


def check_like(metas: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    """Shapes, dtypes and `requires_grad` are those that a part announces."""
    told = [(t.shape, t.dtype, t.requires_grad) for t in metas]
    assert told == [(t.shape, t.dtype, t.requires_grad) for t in tensors]


@pytest.fixture
def stages() -> Callable[..., Stages]:
    """Makes a `Stages` of a model, inputs and `training=`; nothing is split yet."""
    return Stages
