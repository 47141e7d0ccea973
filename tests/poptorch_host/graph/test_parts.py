"""A model split into stages computes what it computes in one go (2.12, 2.6, 2.7).

Sections are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, ClassVar, Dict, List, Tuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host
from poptorch_host.graph.exported import NEEDS

HAS_EXPORT = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= NEEDS
needs_export = pytest.mark.skipif(
    not HAS_EXPORT, reason=f"stages need torch >= {NEEDS[0]}.{NEEDS[1]} (torch.export)"
)
pytestmark = [pytest.mark.usefixtures("one_thread")]

Make = Callable[..., Any]  # the fixture `stages`


def stage(ipu: int) -> None:
    poptorch.Block.start(ipu_id=ipu)


def loss_of(x: Tensor) -> Tensor:
    return poptorch.identity_loss(x.float().pow(2), "mean")


class Net(nn.Module):
    """Three linear layers 4 -> 4 and a function that uses them."""

    def __init__(self, function: Callable[..., Any], **extra: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        for name, value in extra.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


CASES: Dict[str, Tuple[Callable[..., Any], Dict[str, Any], int]] = {}
"""Functions of (net, x) that are split, by the claim; the net's extra members; the stages."""


def case(claim: str, count: int, **extra: Any) -> Callable[[Callable[..., Any]], Any]:
    def add(function: Callable[..., Any]) -> Any:
        CASES[claim] = (function, extra, count)
        return function

    return add


@case("with Block", 3)
def _blocks(net: Any, x: Tensor) -> Any:
    with poptorch.Block("one", ipu_id=0):
        y = net.a(x)
    with poptorch.Block("two", ipu_id=1):
        y = net.b(y)
    with poptorch.Block("three", ipu_id=2):
        return y, loss_of(y)


@case("neighbouring blocks on one IPU merge", 2)  # 2.12
def _merged(net: Any, x: Tensor) -> Any:
    stage(0)
    y = net.a(x)
    stage(0)
    y = net.b(y)
    stage(1)
    y = net.c(y)
    stage(1)
    return y, loss_of(y)


@case("an empty stage 0 is none", 1)
def _empty(net: Any, x: Tensor) -> Any:
    x = x.view(-1, 4)
    stage(1)
    y = net.a(x)
    return y, loss_of(y)


@case("skips, integers and booleans travel", 4)  # 2.12
def _travel(net: Any, x: Tensor) -> Any:
    index, mask = net.a(x).argmax(-1), x > 0
    stage(1)
    y = net.b(x)
    stage(2)
    z = net.c(y)
    stage(3)
    picked = torch.where(mask, z, z * 2).gather(1, index[:, None])
    return mask, index, picked, loss_of(picked + x)


@case("results of any stage, nested", 3)  # 2.3
def _nested(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    stage(1)
    z = net.b(y)
    stage(2)
    return {"early": (y, [z, 3, None]), "input": x, "weight": net.c.weight, "loss": loss_of(z)}


@case("one weight on two stages", 3)
def _tied(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    stage(1)
    y = net.b(y)
    stage(2)
    y = F.linear(y, net.a.weight)
    return y, loss_of(y)


@case("written in place later, seen through views", 4)
def _views(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    flat, column = y.view(-1), y[:, 1]
    stage(1)
    flat.mul_(2)
    stage(2)
    z = y * 3 + column[:, None]
    y += 1
    stage(3)
    w = net.c(z) + flat.view(3, 4)
    return y, flat, w, loss_of(w)


@case("a tensor that arrives is written in place", 2)
def _written(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    z = y * 2
    stage(1)
    y[:, 0] = 3.0
    y.unsqueeze_(0)
    return y, loss_of(net.b(y) + z)


@case("detach and no_grad, open over a border", 3)  # 2.3
def _detached(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    with torch.no_grad():
        target = net.b(y)
        stage(1)
        target = target * 2
    z = net.b(y) + target
    stopped = z.detach()
    stage(2)
    return stopped, target, loss_of(net.c(stopped + z))


@case("nothing before the border needs a gradient", 2)
def _frozen_start(net: Any, x: Tensor) -> Any:
    y = net.a(x).detach()
    stage(1)
    return y, loss_of(net.b(y))


@case("a branch that the loss does not need", 3)
def _unused(net: Any, x: Tensor) -> Any:
    y, other = net.a(x), net.c(x)
    stage(1)
    z = net.b(x)
    stage(2)
    return other.argmax(), y, loss_of(z)


@case(
    "buffers written by copy_, += and on the way", 3, ema=torch.ones(4), turns=torch.zeros(2).int()
)
def _buffers(net: Any, x: Tensor) -> Any:  # 2.7
    y = net.a(x)
    stage(1)
    net.turns += 1  # no float: a constant on the device
    net.ema.mul_(0.5).add_(y.mean(0))
    stage(2)
    z = net.b(y) * net.ema + net.turns.sum()
    return net.ema, net.turns, loss_of(z)


@case("batch normalisation twice", 2, norm=nn.BatchNorm1d(4))  # 2.7
def _norms(net: Any, x: Tensor) -> Any:
    y = net.norm(net.norm(net.a(x)))
    stage(1)
    return y, loss_of(net.b(y))


@case("dropout and random numbers", 3, drop=nn.Dropout(0.5))  # 2.6
def _random(net: Any, x: Tensor) -> Any:
    y = net.drop(net.a(x))
    stage(1)
    y = net.drop(net.b(y))
    y = poptorch.recomputationCheckpoint(y)
    y = net.drop(net.c(y))
    stage(2)
    y = y + torch.rand_like(y)
    return y, loss_of(y)


@case("a module of one block, twice", 1, drop=nn.Dropout(0.5))  # 1.5, 2.6
def _again(net: Any, x: Tensor) -> Any:
    poptorch.Block.start("same", ipu_id=1)
    first = net.drop(torch.ones_like(x))
    poptorch.Block.start("same", ipu_id=1)
    second = net.drop(torch.ones_like(x))
    return first, second, first == second, loss_of(net.a(first + second))


@case("a built-in loss that feeds identity_loss", 2)  # 2.3
def _losses(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    stage(1)
    loss = F.cross_entropy(y, y.argmax(-1)) + F.l1_loss(y, x, reduction="sum")
    return poptorch.identity_loss(loss, "none")


@case("a built-in loss", 2)  # 2.3
def _built_in(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    stage(1)
    y = F.one_hot(y.argmax(-1), 4) * net.b(x) + torch.tensor([1.0, 2.0, 3.0, 4.0])
    return y, F.mse_loss(y, x)


@case("attributes set in forward", 2)
def _attributes(net: Any, x: Tensor) -> Any:
    net.seen, net.calls = net.a(x), 5
    stage(1)
    y = net.b(net.seen)
    return y, loss_of(y)


@case("an LSTM", 2, lstm=nn.LSTM(4, 4))
def _lstm(net: Any, x: Tensor) -> Any:
    y = net.lstm(x[None])[0][0]
    stage(1)
    y = net.a(y)
    return y, loss_of(y)


@needs_export
@pytest.mark.parametrize("way", ["train", "recompute", "infer"])
@pytest.mark.parametrize("claim", list(CASES))
def test_parts_compute_what_the_model_computes(claim: str, way: str, stages: Make) -> None:
    function, extra, count = CASES[claim]
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    both = stages(Net(function, **copy.deepcopy(extra)), x, training=way != "infer")
    assert len(both.split(recompute=way == "recompute")) == count
    for seed in (1, 2):
        expected, got = both.run_eager(x, seed=seed), both.run_parts(x, seed=seed)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    both.check_equal()


@needs_export
def test_micro_batches_in_flight_keep_their_buffers_and_random_numbers(stages: Make) -> None:
    # a pipeline runs several forward before the first goes back (2.12, 2.6, 2.7)
    def forward(net: Any, x: Tensor) -> Any:
        net.ema.mul_(0.5).add_(x.mean(0))
        y = net.norm(F.dropout(net.a(x) * net.ema))
        stage(1)
        y = F.dropout(net.b(y))
        return y, loss_of(y)

    net = Net(forward, ema=torch.ones(4), norm=nn.BatchNorm1d(4))
    batches = torch.randn(3, 3, 4)
    both = stages(net, batches[0], training=True)
    for recompute in (False, True):
        both.split(recompute=recompute)
        expected = [both.run_eager(x, seed=seed) for seed, x in enumerate(batches)]
        passed = [both.forward(x, seed=seed) for seed, x in enumerate(batches)]
        for one in passed:
            both.backward(one)
        for want, got in zip(expected, passed):
            torch.testing.assert_close([t.detach() for t in got[-1][1]], want, rtol=0, atol=0)
        both.check_equal()


@needs_export
def test_parts_hold_the_trees_own_weights_and_name_them(stages: Make) -> None:
    both = stages(Net(CASES["one weight on two stages"][0]), torch.ones(3, 4), training=True)
    parts = both.split()
    assert [part.weights for part in parts] == [
        ("a.weight", "a.bias"),
        ("b.weight", "b.bias"),
        ("a.weight",),
    ]
    for part in parts:
        held = {id(parameter) for parameter in part.module.parameters()}
        assert held == {id(both.cut.weights[name]) for name in part.weights}


@needs_export
def test_written_buffers_are_named_and_counters_are_not(stages: Make) -> None:
    norm = nn.BatchNorm1d(4)
    both = stages(
        Net(CASES["batch normalisation twice"][0], norm=norm), torch.ones(3, 4), training=True
    )
    assert [set(part.written) for part in both.split()] == [
        {"norm.running_mean", "norm.running_var"},
        set(),
    ]
    both.run_parts(torch.ones(3, 4))
    assert both.cut.weights["norm.num_batches_tracked"] == 0


@needs_export
def test_attributes_of_the_tree_stay_as_they_were(stages: Make) -> None:
    both = stages(Net(CASES["attributes set in forward"][0]), torch.ones(3, 4), training=True)
    before = dict(both.cut.module.__dict__)
    both.split()
    assert both.cut.module.__dict__.keys() == before.keys()
    assert "seen" not in both.cut.module.__dict__


class Slope(torch.autograd.Function):
    """x -> 2 x, with a gradient of 5."""

    calls: ClassVar[List[str]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        Slope.calls.append(f"forward {poptorch.isRunningOnIpu()}")
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        Slope.calls.append(f"backward {poptorch.isRunningOnIpu()}")
        return gradients[0] * ctx.factor, None


@needs_export
def test_custom_ops_are_called_each_time_and_go_back_through_their_own_backward(
    stages: Make,
) -> None:
    host.register_custom_op("test.parts", "Slope", lambda inputs, _: [Slope.apply(inputs[0], 5)])

    def forward(net: Any, x: Tensor) -> Any:
        assert poptorch.isRunningOnIpu()
        y = poptorch.custom_op([net.a(x)], "Slope", "test.parts", 1, [x])[0]
        stage(1)
        return y, loss_of(net.b(y))

    x = torch.ones(3, 4)
    both = stages(Net(forward), x, training=True)
    both.split()
    Slope.calls.clear()
    assert len(both.run_parts(x)) == 3
    assert Slope.calls == ["forward True", "backward True"]
    both.run_eager(x)
    both.check_equal()


@needs_export
def test_a_function_of_autograd_in_forward_keeps_its_backward(stages: Make) -> None:
    def forward(net: Any, x: Tensor) -> Any:
        y = Slope.apply(net.a(x), 3)
        stage(1)
        return y, loss_of(Slope.apply(net.b(y), 7))

    x = torch.ones(3, 4)
    both = stages(Net(forward), x, training=True)
    both.split()
    torch.testing.assert_close(both.run_parts(x), both.run_eager(x), rtol=0, atol=0)
    both.check_equal()


@needs_export
@pytest.mark.parametrize("training", [True, False])
def test_half_models_round_as_in_one_go(training: bool, stages: Make) -> None:  # 2.9
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.linear = poptorch.BeginBlock(nn.Linear(4, 4), ipu_id=1)

        def forward(self, x: Tensor) -> Any:
            y = self.norm(self.conv(x)).mean((2, 3))
            return self.linear(y.float()), loss_of(self.linear.weight * y.sum())

    x = torch.randn(2, 3, 6, 6).half()
    both = stages(Half().half(), x, training=training)
    assert len(both.split(recompute=True)) == 2
    torch.testing.assert_close(both.run_parts(x), both.run_eager(x), rtol=0, atol=0)
    both.check_equal()


@needs_export
def test_a_view_on_a_permuted_tensor_works_after_it_arrived_in_another_order(
    stages: Make,
) -> None:
    def forward(net: Any, x: Tensor) -> Any:
        y = net.a(x).t()
        stage(1)
        return y.t().view(-1)

    x = torch.randn(3, 4)
    both = stages(Net(forward), x, training=False)
    first, second = both.split()
    (y,) = first.module(x)
    assert second.inputs[0].stride() == (1, 4)
    torch.testing.assert_close(second.module(y.contiguous())[0], both.run_eager(x)[0])


@needs_export
@pytest.mark.parametrize("names", [("x", "y", "x"), ("x", "y", "z")])
def test_a_stage_is_entered_once(names: Tuple[str, ...], stages: Make) -> None:  # 2.12
    def forward(net: Any, x: Tensor) -> Any:
        for layer, name, ipu in zip((net.a, net.b, net.c), names, (0, 1, 0)):
            poptorch.Block.start(name, ipu_id=ipu)
            x = layer(x)
        return x

    both = stages(Net(forward), torch.ones(3, 4), training=False)
    with pytest.raises(poptorch.Error, match=r"enters stage 0 .* again.*once per micro-batch"):
        both.split()


def _two_writers(net: Any, x: Tensor) -> Any:
    net.ema.add_(x.mean(0))
    stage(1)
    net.ema.mul_(0.5)
    return net.a(x)


def _early_reader(net: Any, x: Tensor) -> Any:
    y = net.a(x) + net.ema
    stage(1)
    net.ema.add_(y.mean(0))
    return y


@needs_export
@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (_two_writers, r"writes ema on stages \[0, 1\]"),
        (_early_reader, "reads ema on stage 0 and writes it on stage 1"),
    ],
)
def test_a_buffer_is_written_on_one_stage(
    forward: Callable[..., Any], message: str, stages: Make
) -> None:
    both = stages(Net(forward, ema=torch.ones(4)), torch.ones(3, 4), training=False)
    with pytest.raises(poptorch.Error, match=message):
        both.split()


@pytest.mark.skipif(HAS_EXPORT, reason="this torch can export")
def test_an_old_torch_is_named_with_what_stages_need(stages: Make) -> None:
    both = stages(Net(CASES["with Block"][0]), torch.ones(3, 4), training=True)
    with pytest.raises(
        poptorch.Error, match=rf"needs torch >= 2\.\d+ .* this is {torch.__version__[:5]}"
    ):
        both.split()
