"""Half on a CPU is stored as half, computed in float32 and rounded, operator by operator (2.9)."""

from __future__ import annotations

from typing import Callable, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.half import HalfRounding

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
