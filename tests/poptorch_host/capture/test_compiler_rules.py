"""What the device's compiler takes, and how it narrows numbers (3); see capture/, too."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]
Function = Callable[[Tensor], Any]
X = torch.arange(1.0, 13.0).view(3, 4)


# ---- 3.3: dtypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.int32),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.int32, torch.int32),
        (torch.int16, torch.int16),
        (torch.int8, torch.int8),
        (torch.uint8, torch.uint8),
        (torch.bool, torch.bool),
    ],
)
def test_every_dtype_of_the_device_goes_in_and_comes_out_narrow(
    given: torch.dtype, returned: torch.dtype, wrap: Wrap
) -> None:
    x = torch.tensor([[0, 1]]).to(given)
    result = wrap(lambda x: x.clone())(x)
    assert result.dtype == returned
    assert result.tolist() == x.tolist()


def test_wide_results_of_forward_s_own_casts_come_back_narrow(wrap: Wrap) -> None:
    results = wrap(lambda x: (x.double() + 1, x.bfloat16(), x.long()))(X)
    assert [result.dtype for result in results] == [torch.float32, torch.float32, torch.int32]


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_constants_fit_into_32_bits(value: int, wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error, match="does not fit into int32"):
        wrap(lambda x: x.long() + torch.tensor([value])).compile(X)
    assert (wrap(lambda x: x.int() * 0 + torch.tensor([2**31 - 1]))(X) == 2**31 - 1).all()


# ---- 3.4: in place -------------------------------------------------------------------------------


def through_views(x: Tensor) -> Tensor:
    x[1].t().mul_(10)  # a view of a view of the input
    x.view(-1)[:2] = 0
    return x + 0


def test_writes_through_views_reach_the_caller_s_tensor(wrap: Wrap) -> None:
    x, expected = X.clone(), X.clone()
    through_views(expected)
    torch.testing.assert_close(wrap(through_views)(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_writes_through_views_reach_buffers() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(2, 2))
            self.kept: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.kept[0].view(-1)[1] += x.sum()
            return self.kept * 1

    model = Remembers()
    executor = poptorch.inferenceModel(model)
    for turn in (1.0, 2.0):
        assert executor(torch.ones(2)).tolist() == [[0.0, 2.0 * turn], [0.0, 0.0]]
    executor.copyWeightsToHost()
    assert model.kept.tolist() == [[0.0, 4.0], [0.0, 0.0]]


def test_out_arguments_are_writes_in_place(wrap: Wrap) -> None:
    def add_out(x: Tensor) -> Tensor:
        result = torch.empty_like(x)
        torch.add(x, 1, out=result)
        return result

    torch.testing.assert_close(wrap(add_out)(X), X + 1)


# ---- 3.5: operators without a lowering -----------------------------------------------------------

ABSENT: List[Function] = [
    lambda x: torch.linalg.inv(x[:, :3]),
    lambda x: torch.linalg.det(x[:, :3]),
    lambda x: torch.fft.rfft(x).abs(),
    lambda x: torch.nan_to_num(x),
    lambda x: x.tril(),
    lambda x: torch.linalg.svd(x).S,
    lambda x: torch.erfinv(x),
]


@pytest.mark.parametrize("function", ABSENT)
def test_linear_algebra_and_transforms_are_absent(function: Function, wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error, match=r"Unsupported (ops found|data type)"):
        wrap(function).compile(X)


# ---- what detection code is made of --------------------------------------------------------------

PASSES: List[Function] = [
    lambda x: x.topk(2, sorted=True).indices,
    lambda x: x.argmax(1),
    lambda x: x.masked_fill(x > 5, -1.0),
    lambda x: torch.where(x > 5, x, 0.0).sum(1),
    lambda x: x.cumsum(0),
    lambda x: x.argsort(1, descending=True),
    lambda x: torch.zeros_like(x).scatter(1, (x > 5).long(), 2.0),
    lambda x: torch.zeros(4).scatter_add(0, torch.tensor([0, 1, 1]), x[:, 0]),
    lambda x: F.one_hot((x[:, 0] > 5).long(), num_classes=3),
    lambda x: torch.stack(torch.meshgrid(x[0], x[1], indexing="ij")),
    lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    lambda x: F.interpolate(x.view(1, 1, 3, 4), scale_factor=2, mode="nearest"),
    lambda x: F.adaptive_avg_pool2d(x.view(1, 3, 2, 2), 1),
    lambda x: torch.isnan(x) | torch.isinf(x),
    lambda x: x.clamp(min=2, max=7).log().exp(),
    lambda x: torch.maximum(x[:, None], x[None]).amax(-1),
]


@pytest.mark.parametrize("function", PASSES)
def test_detection_s_static_operators_pass(function: Function, wrap: Wrap) -> None:
    torch.testing.assert_close(wrap(function)(X.clone()), function(X), check_dtype=False)


class Causal(nn.Module):
    """A triangular mask, kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(4, 4).tril())
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def test_triangles_are_constants_or_buffers(wrap: Wrap) -> None:
    torch.testing.assert_close(poptorch.inferenceModel(Causal())(torch.ones(4, 4)), Causal().mask)
    upper = wrap(lambda x: x * torch.ones(3, 4).triu())
    torch.testing.assert_close(upper(X), X.triu())
    with pytest.raises(poptorch.Error, match="triu is supported on constants only"):
        wrap(lambda x: x.triu()).compile(X)


# ---- forms of listed operators that torch takes apart --------------------------------------------

FORMS: List[Function] = [
    lambda x: F.max_pool1d(x[None], 2),  # its indices pass through a view
    lambda x: nn.MaxPool1d(3, 2, 1)(x[None]),
    lambda x: (x.int() | 4, x.int() ^ 1, x.int() & 3, (x > 5) | False),
    lambda x: torch.matmul(x[0], x.t()),
]


@pytest.mark.parametrize("function", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_form_of_a_listed_operator_passes(
    function: Function, dtype: torch.dtype, wrap: Wrap
) -> None:
    expected = function(X.clone())
    result = wrap(function)(X.to(dtype))
    torch.testing.assert_close(result, expected, check_dtype=False, rtol=1e-3, atol=0)


def test_the_indices_of_max_pooling_are_refused_through_views_too(wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error, match="the indices output is not supported"):
        wrap(lambda x: F.max_pool1d(x[None], 2, return_indices=True)[1]).compile(X)


def test_a_gru_may_have_no_bias() -> None:
    gru = nn.GRU(4, 3, bias=False)
    torch.testing.assert_close(poptorch.inferenceModel(gru)(X), tuple(gru(X)))


def test_ctc_loss_takes_lengths_in_tensors() -> None:
    class Ctc(nn.Module):
        def forward(self, x: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
            log_probs = x.log_softmax(-1)
            return F.ctc_loss(log_probs, targets, lengths, torch.tensor([2, 3]))

    torch.manual_seed(0)
    inputs = (torch.randn(6, 2, 5), torch.randint(1, 5, (2, 3)), torch.tensor([6, 5]))
    torch.testing.assert_close(poptorch.inferenceModel(Ctc())(*inputs), Ctc()(*inputs))
