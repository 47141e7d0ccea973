"""Activations that are computed once more change no result, and are not kept (1.6, 2.12)."""

from __future__ import annotations

import copy
import logging
import weakref
from typing import Any, Callable, ClassVar, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import poptorch_host as poptorch
from poptorch_host import host
from poptorch_host.graph.exported import NEEDS
from poptorch_host.optim import SGD

HAS_EXPORT = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= NEEDS
needs_export = pytest.mark.skipif(
    not HAS_EXPORT, reason=f"recomputation needs torch >= {NEEDS[0]}.{NEEDS[1]} (torch.export)"
)
pytestmark = [pytest.mark.usefixtures("one_thread")]

Configure = Callable[..., object]


class Tap(nn.Module):
    """Passes a tensor on through a custom operator that tells of it."""

    passed: ClassVar[List[Any]] = []
    """Weak references to the memory of what passed so far, in order."""

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.custom_op([x], "Tap", "test.recompute", 1, [x])[0]


class _Copy(torch.autograd.Function):
    """A copy in memory that can be watched: an array's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        array = x.detach().numpy().copy()
        Tap.passed.append(weakref.ref(array))
        return torch.from_numpy(array)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def _tap(inputs: List[Tensor], attributes: object) -> List[Tensor]:
    return [_Copy.apply(inputs[0])]


class Deep(nn.Module):
    """Six layers with everything that running twice might spoil; `marks` between pairs of them."""

    ema: Tensor

    def __init__(self, marks: bool, ipus: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        host.register_custom_op("test.recompute", "Tap", _tap)
        self.marks = marks
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(6))
        self.tap = Tap()
        self.register_buffer("ema", torch.ones(4))
        if ipus:
            poptorch.BeginBlock(self.layers[3], ipu_id=1)

    def forward(self, x: Tensor) -> Any:
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            x = F.dropout(norm(layer(self.tap(x)))).tanh()
            if self.marks and index % 2:
                x = poptorch.recomputationCheckpoint(x)
        self.ema.mul_(0.5).add_(x.detach().mean(0))
        return x, poptorch.identity_loss((x * self.ema).pow(2), "mean")


def train(model: nn.Module, calls: int = 2, replicas: int = 1) -> List[Tensor]:
    """Results of the calls, then the trained weights and buffers."""
    options = poptorch.Options().randomSeed(3).replicationFactor(replicas)
    options.broadcastBuffers(False).autoRoundNumIPUs(True)
    options.Training.gradientAccumulation(4)
    model = copy.deepcopy(model)
    executor = poptorch.trainingModel(model, options, SGD(model.parameters(), lr=0.1))
    x = torch.randn(12 * replicas, 4, generator=torch.Generator().manual_seed(1))
    results: List[Tensor] = []
    for _ in range(calls):
        results += executor(x)
    executor.destroy()
    return results + [tensor.detach() for tensor in model.state_dict().values()]


@needs_export
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("ipus", [False, True])
def test_results_are_those_without_recomputation(
    ipus: bool, replicas: int, configure: Configure
) -> None:
    # dropout replays its mask, batch normalisation and the average move once (2.12)
    model = Deep(marks=True, ipus=ipus)
    configure(recompute="never")
    expected = train(model, replicas=replicas)
    Tap.passed.clear()
    configure(recompute="auto")
    torch.testing.assert_close(train(model, replicas=replicas), expected, rtol=0, atol=0)
    assert len(Tap.passed) > 2 * 4 * replicas * 6  # some layers ran again


class Ending(nn.Module):
    """`Deep`, and a look at what is alive when its forward pass is through."""

    def __init__(self, marks: bool) -> None:
        super().__init__()
        self.deep = Deep(marks)
        self.alive: List[int] = []
        host.register_custom_op("test.recompute", "Look", self._look)

    def _look(self, inputs: List[Tensor], attributes: object) -> List[Tensor]:
        self.alive.append(sum(one() is not None for one in Tap.passed))
        Tap.passed.clear()
        return [inputs[0] * 1]

    def forward(self, x: Tensor) -> Any:
        y, loss = self.deep(x)
        return poptorch.custom_op([y], "Look", "test.recompute", 1, [y])[0], loss


@needs_export
def test_only_what_is_marked_is_kept(configure: Configure) -> None:
    # Each layer keeps its input, which passed a tap just before. With recomputation the inputs of
    # segments are kept instead, which have not passed one.
    kept = {}
    for recompute in ("never", "auto"):
        configure(recompute=recompute)
        model = Ending(marks=True)
        options = poptorch.Options()
        executor = poptorch.trainingModel(model, options, SGD(model.parameters(), lr=0.1))
        Tap.passed.clear()
        executor(torch.ones(3, 4))
        kept[recompute] = model.alive[0]
        executor.destroy()
    assert kept == {"never": 6, "auto": 0}


@needs_export
def test_always_recomputes_a_model_without_marks(configure: Configure) -> None:
    model = Deep(marks=False, ipus=True)
    expected = train(model)
    Tap.passed.clear()
    configure(recompute="always")
    torch.testing.assert_close(train(model), expected, rtol=0, atol=0)
    assert len(Tap.passed) > 2 * 4 * 6


@pytest.mark.parametrize(("marks", "recompute"), [(False, "auto"), (True, "never")])
def test_nothing_is_recomputed_unasked(marks: bool, recompute: str, configure: Configure) -> None:
    configure(recompute=recompute)
    Tap.passed.clear()
    train(Deep(marks))
    assert len(Tap.passed) == 2 * 4 * 6


class Writes(nn.Module):
    """Adds one to its input, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.clone())
        x += 1
        y = poptorch.recomputationCheckpoint(y).tanh()
        return poptorch.identity_loss(self.layer(y), "sum")


@pytest.mark.parametrize("recompute", ["auto", "never"])
def test_inputs_changed_in_forward_are_changed_once(recompute: str, configure: Configure) -> None:
    configure(recompute=recompute)
    model = Writes()
    executor = poptorch.trainingModel(model, optimizer=SGD(model.parameters(), lr=0.1))
    x = torch.zeros(3, 4)
    executor(x)
    assert x.tolist() == torch.ones(3, 4).tolist()  # 2.4


def test_a_value_is_printed_once_although_it_is_computed_twice(
    configure: Configure, capfd: pytest.CaptureFixture[str]
) -> None:
    class Prints(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = poptorch.ipu_print_tensor(self.layer(x), "seen")
            y = poptorch.recomputationCheckpoint(self.layer(y.tanh()).tanh())
            return poptorch.identity_loss(self.layer(y), "sum")

    model = Prints()
    poptorch.trainingModel(model, optimizer=SGD(model.parameters(), lr=0.1))(torch.zeros(3, 4))
    printed = capfd.readouterr().err
    assert printed.count("Gradient___seen") == 1
    assert printed.count("seen: {") == 2  # the value and the gradient


@needs_export
def test_a_model_that_cannot_be_a_graph_keeps_all_and_says_so(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.table = [torch.zeros(4)]  # no buffer

        def forward(self, x: Tensor) -> Tensor:
            y = poptorch.recomputationCheckpoint(self.layer(x))
            self.table[0].copy_(y.detach().mean(0))
            return poptorch.identity_loss(y.tanh(), "sum")

    model = Cached()
    executor = poptorch.trainingModel(model, optimizer=SGD(model.parameters(), lr=0.1))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        executor(torch.ones(3, 4))
        executor(torch.ones(3, 4))
    told = [r for r in caplog.records if "all activations are kept" in r.getMessage()]
    assert len(told) == 1
    assert "register_buffer" in told[0].getMessage()


@pytest.mark.skipif(HAS_EXPORT, reason="this torch can export")
def test_an_old_torch_keeps_all_and_says_so_at_compile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        train(Deep(marks=True))
    told = [r.getMessage() for r in caplog.records if "Nothing is recomputed" in r.getMessage()]
    assert len(told) == 1
    assert f"Recomputation needs torch >= {NEEDS[0]}.{NEEDS[1]}" in told[0]
    assert torch.__version__ in told[0]


def test_random_numbers_of_a_block_do_not_depend_on_those_before(configure: Configure) -> None:
    # 2.6: a stage draws the same numbers wherever, and after whatever, it runs
    class Draws(nn.Module):
        def __init__(self, before: int) -> None:
            super().__init__()
            self.before = before

        def forward(self, x: Tensor) -> Any:
            first = torch.rand(self.before) + x[0]
            poptorch.Block.start(ipu_id=0)
            second = torch.rand(4) + x[0]
            poptorch.Block.start(ipu_id=0)
            return first, second, torch.rand(4) + x[0]

    options = poptorch.Options().randomSeed(5)
    few = poptorch.inferenceModel(Draws(1), options)(torch.zeros(1))
    many = poptorch.inferenceModel(Draws(9), options)(torch.zeros(1))
    assert [t.tolist() for t in few[1:]] == [t.tolist() for t in many[1:]]
    assert len({float(t[0]) for t in few}) == 3


def test_a_block_that_torchs_checkpoint_runs_again_draws_the_same_numbers() -> None:
    # A block seeds its numbers when it begins, also when torch.utils.checkpoint begins it again.
    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64))
            self.body = poptorch.BeginBlock(_Dropped(), ipu_id=0)

        def forward(self, x: Tensor) -> Any:
            noise = torch.rand(3)  # so that the state at the checkpoint is not the block's
            y = checkpoint(self.body, self.weight * x, use_reentrant=False)
            return y, noise, poptorch.identity_loss(y, "sum")

    class _Dropped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5) * x

    model = Checked()
    options = poptorch.Options().randomSeed(1)
    executor = poptorch.trainingModel(model, options, SGD(model.parameters(), lr=1.0))
    y, _, _ = executor(torch.ones(64))
    executor.destroy()
    # y is 2 w^2 where it was kept, so the gradient is 4 there and 0 elsewhere
    torch.testing.assert_close(model.weight.detach(), 1 - 2 * y)


@needs_export
def test_a_half_model_with_batch_norm_recomputes(configure: Configure) -> None:
    # The graph was made inside the modes that round a run to half, and never got ready.
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, images: Tensor) -> Tensor:
            features: Tensor = poptorch.recomputationCheckpoint(self.layers(images))
            return poptorch.identity_loss(features.float(), "mean")

    def losses() -> List[float]:
        torch.manual_seed(0)
        model = Half().half().train()
        executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        return [float(executor(torch.ones(2, 1, 8, 8).half())) for _ in range(3)]

    recomputed = losses()
    configure(recompute="never")
    assert recomputed == losses()
