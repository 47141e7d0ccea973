"""Half on a CPU is stored as half, computed in float32 and rounded, operator by operator (2.9)."""

from __future__ import annotations

from typing import Callable, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.tensors.half import HalfRounding

Wrap = Callable[..., poptorch.PoplarExecutor]


def rounded(x: Tensor) -> Tensor:
    """Values that half can hold, in float32."""
    return x.half().float()


def test_each_operator_rounds_once(wrap: Wrap) -> None:
    x = torch.tensor([2049.0 / 2048])  # 1 + 2**-11 rounds to 1 in half
    result = wrap(lambda x: (x + 2**-11) * 3.0)(x.half())
    assert result.dtype == torch.float16
    assert result.item() == 3.0


def test_sums_are_kept_in_float32(wrap: Wrap) -> None:
    x = torch.ones(4096, dtype=torch.float16)
    assert wrap(lambda x: x.sum())(x).item() == 4096.0  # half counts in ones up to 2048 only


OPERATORS: List[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, w: F.conv2d(x, w),
    lambda x, w: F.conv2d(x, w, stride=2, padding=1).relu(),
    lambda x, w: F.max_pool2d(x, 2),
    lambda x, w: F.interpolate(x, scale_factor=2.0),
    lambda x, w: x.softmax(1),
    lambda x, w: x.mean((2, 3)),
    lambda x, w: torch.cat([x, x], 1),
    lambda x, w: x.flatten(1) @ x.flatten(1).t(),
    lambda x, w: F.silu(x),
    lambda x, w: x.clamp(0.25, 0.5),
    lambda x, w: torch.where(x > 0.5, x, 0.0),
    lambda x, w: x.sigmoid().topk(2, dim=-1).values,
]


@pytest.mark.parametrize("function", OPERATORS)
def test_operators_equal_float32_rounded_at_the_end(
    wrap: Wrap, function: Callable[[Tensor, Tensor], Tensor]
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.rand(4, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.weight)

    x = torch.rand(2, 3, 8, 8)
    model = Model().half()
    result = poptorch.inferenceModel(model)(x.half())
    expected = function(rounded(x), rounded(model.weight)).detach()
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.float(), expected, rtol=2**-10, atol=1e-6)


def test_half_and_float_promote_as_in_torch(wrap: Wrap) -> None:
    x = torch.rand(3).half()
    assert wrap(lambda x: x + torch.ones(3))(x).dtype == torch.float32
    assert wrap(lambda x: x + torch.ones(()))(x).dtype == torch.float16  # a scalar does not widen
    assert wrap(lambda x: x.float() * 2)(x).dtype == torch.float32
    assert wrap(lambda x: x.sum(dtype=torch.float32))(x).dtype == torch.float32
    assert wrap(lambda x: x > 0.5)(x).dtype == torch.bool
    assert wrap(lambda x: x.argmax())(x).dtype == torch.int32


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.Conv1d(4, 4, 1), nn.LayerNorm(4)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_layers_take_the_dtype_of_their_input(layer: nn.Module, dtype: torch.dtype) -> None:
    other = torch.float32 if dtype == torch.float16 else torch.float16
    executor = poptorch.inferenceModel(layer.to(other))
    result = executor(torch.rand(2, 4, 4).to(dtype))
    assert result.dtype == dtype


def test_batch_norm_computes_and_keeps_statistics() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 4)
    model = nn.BatchNorm1d(4).half().train()
    executor = poptorch.inferenceModel(model)
    result = executor(x.half())
    executor.copyWeightsToHost()
    expected = nn.BatchNorm1d(4).train()
    torch.testing.assert_close(result, expected(rounded(x)).half(), rtol=2**-9, atol=2**-10)
    mean, expected_mean = model.running_mean, expected.running_mean
    assert mean is not None
    assert expected_mean is not None
    assert mean.dtype == torch.float16
    torch.testing.assert_close(mean, expected_mean.half())


def test_writing_in_place_reaches_views() -> None:
    x = torch.zeros(4, dtype=torch.float16)
    with torch.no_grad(), HalfRounding():  # type: ignore[no-untyped-call]
        x[1:3].add_(1.5)
        x[0] = 7.0
        assert x.view(2, 2)[0].mul_(2.0).dtype == torch.float16
    assert x.tolist() == [14.0, 3.0, 1.5, 0.0]


def test_a_half_network_is_near_the_float_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).eval()
    x = torch.rand(2, 3, 8, 8)
    expected = model(x).detach()
    result = poptorch.inferenceModel(model.half(), poptorch.Options().deviceIterations(2))(x.half())
    torch.testing.assert_close(result.float(), expected, rtol=0, atol=5e-3)


def test_half_inside_a_float_model_is_emulated_too(wrap: Wrap) -> None:
    x = torch.rand(1, 3, 4, 4)
    result = wrap(lambda x: F.conv2d(x.half(), x.half()).float())(x)
    torch.testing.assert_close(result, F.conv2d(rounded(x), rounded(x)), rtol=2**-10, atol=0)


SHAPES: List[Callable[[Tensor], Tensor]] = [
    lambda x: x.unsqueeze(0).clone().squeeze_(0),
    lambda x: x.clone().unsqueeze_(0),
    lambda x: x.clone().t_(),
    lambda x: x.clone().transpose_(0, 1),
    lambda x: x[0] @ x.t(),  # torch squeezes the result in place
]


@pytest.mark.parametrize("function", SHAPES)
def test_shapes_change_in_place(function: Callable[[Tensor], Tensor], wrap: Wrap) -> None:
    x = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(wrap(function)(x.half()).float(), function(x))


KERNELS: List[Callable[[Tensor], object]] = [
    lambda x: x.median(),
    lambda x: x.median(1),
    lambda x: F.rrelu(x - 4),
    lambda x: F.max_pool3d(x.view(1, 1, 2, 2, 3), 2),
    lambda x: F.cross_entropy(x.view(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 1]]])),
]


@pytest.mark.parametrize("function", KERNELS)
def test_operators_without_a_half_kernel_compile(
    function: Callable[[Tensor], object], wrap: Wrap
) -> None:
    x = torch.tensor([3.0, 1, 2, 6, 5, 4, 9, 8, 7, 12, 11, 10]).view(4, 3)
    result = wrap(function)(x.half())
    torch.testing.assert_close(result, function(x), check_dtype=False, rtol=2e-3, atol=1e-3)


def test_softmax_trains() -> None:
    # Its gradient is told the input's dtype by position.
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            x = x * self.weight
            return F.cross_entropy(x + x.softmax(1), labels)

    x, labels = torch.tensor([[1.0, 2, 3], [3, 1, 0]]), torch.tensor([1, 2])
    plain, model = Model(), Model().half()
    plain(x, labels).backward()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.5)
    loss = poptorch.trainingModel(model, optimizer=optimizer)(x.half(), labels)
    assert loss.dtype == torch.float16
    assert plain.weight.grad is not None
    assert model.weight.item() == pytest.approx(1 - 0.5 * plain.weight.grad.item(), abs=2e-3)


def test_instance_norm_computes_and_keeps_statistics() -> None:
    # 2.9, as for batch normalisation.
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8)
    plain = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    model = nn.InstanceNorm1d(3, affine=True, track_running_stats=True).half()
    executor = poptorch.inferenceModel(model)
    result = executor(x.half())
    executor.copyWeightsToHost()
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.float(), plain(x), rtol=1e-2, atol=1e-2)
    assert model.running_mean is not None
    assert plain.running_mean is not None
    torch.testing.assert_close(model.running_mean.float(), plain.running_mean, rtol=1e-2, atol=1e-2)
