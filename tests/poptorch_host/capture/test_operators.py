"""Capture refuses on a laptop what the IPU refuses: operators, and forms of them (3).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host
from tests.poptorch_host.capture.refusal import Function, Wrap, refused

UNLISTED: List[Function] = [
    lambda x: x.tril(),
    lambda x: F.grid_sample(x, x[..., :2], align_corners=False),
    lambda x: torch.nan_to_num(x),
    lambda x: F.huber_loss(x, x),
    lambda x: F.adaptive_max_pool2d(x, 3),
    lambda x: torch.repeat_interleave(x, 2, 0),
    lambda x: torch.multinomial(x[0, 0], 1),
    lambda x: torch.searchsorted(x, x),
]


@pytest.mark.parametrize("function", UNLISTED)
def test_operators_outside_the_list_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, r"Unsupported ops found in compiled model: \[aten::\w+\]")


def test_all_unlisted_operators_are_named_in_one_error(wrap: Wrap) -> None:
    executor = wrap(lambda x: torch.erfinv(x).tril())
    with pytest.raises(poptorch.Error, match=r"\[aten::erfinv, aten::tril\]\. Not all operations"):
        executor.compile(torch.rand(2, 2))


def test_reported_operators_do_not_stop_the_model(
    wrap: Wrap, configure: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    configure(operators="report")
    executor = wrap(lambda x: x.tril())
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result = executor(torch.ones(2, 2))
    torch.testing.assert_close(result, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert "Unsupported ops found in compiled model: [aten::tril]" in caplog.text
    (use,) = host.report(executor).unsupported
    assert use.name == "aten::tril"
    assert use.location.startswith(__file__)


LIMITED = [
    (lambda x: x.flatten().topk(3, sorted=False), "topk with sorted=False"),
    (lambda x: F.max_pool2d(x, 2, return_indices=True), "indices output"),
    (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] + 1, "indices output"),
    (lambda x: F.adaptive_avg_pool2d(x, 4), "divisible by the output size"),
    (lambda x: F.interpolate(x, size=(9, 9), mode="bilinear"), "non-integer factor"),
    (lambda x: F.interpolate(x, size=(12, 18), mode="bilinear"), "Non-uniform"),
    (lambda x: F.interpolate(x, (12, 12), None, "bicubic", True), "align_corners=False"),
    (lambda x: F.one_hot(x.long()), "one_hot needs num_classes"),
    (lambda x: F.embedding(x.long(), x[0, 0], padding_idx=1), "padding_idx=1"),
    (lambda x: F.conv_transpose2d(x, x.transpose(0, 1), dilation=2), "dilation"),
    (lambda x: x.triu(), "triu is supported on constants only"),
    (lambda x: x.to(torch.uint8) & x.to(torch.uint8), "8-bit integers"),
    (lambda x: x.long() + torch.full((6,), 2**40), "does not fit into int32"),
    (lambda x: x.long() + torch.tensor([2**40]), "does not fit into int32"),
    (lambda x: x.clone()[:, ::2].add_(1), "step other than 1"),
    (lambda x: torch.bincount(x.flatten().long()), "bincount needs minlength"),
    (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "is_causal"),
    (lambda x: F.cross_entropy(x, x[:, 0].long(), weight=x[0, :, 0, 0]), "class weights"),
    (lambda x: torch.linalg.matrix_norm(x, 2), "ord=2"),
]


@pytest.mark.parametrize(("function", "text"), LIMITED)
def test_forms_that_poptorch_does_not_take_are_refused(
    wrap: Wrap, function: Function, text: str
) -> None:
    refused(wrap, function, text)


ACCEPTED: List[Function] = [
    lambda x: x.flatten(1).topk(3).values,
    lambda x: F.max_pool2d(x, 2),
    lambda x: F.adaptive_avg_pool2d(x, 3),
    lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    lambda x: F.interpolate(x, scale_factor=2.0),
    lambda x: F.one_hot(x.round().long(), 2),
    lambda x: F.layer_norm(x, [6]).softmax(-1).relu(),
    lambda x: torch.cat([x, x], 1).chunk(2, 1)[0].permute(0, 2, 3, 1).reshape(2, -1),
    lambda x: x.gather(1, (x > 0.5).long()),
    lambda x: torch.where(x > 0.5, x, 0.0),
    lambda x: x.cumsum(1).sort(1)[0].argmax(1),
    lambda x: F.cross_entropy(x, x[:, 0].long(), label_smoothing=0.1),
    lambda x: F.scaled_dot_product_attention(x, x, x),
    lambda x: x[:, torch.tensor([0, 2])],
    lambda x: torch.bincount(x.flatten().round().long(), minlength=2),
    lambda x: F.dropout(x, 0.5, training=False).std(),
    lambda x: x.shape[0] * len(x) * x.sum(),
    lambda x: torch.vdot(x.flatten(), x.flatten()),  # spectral_norm of new torch
]


@pytest.mark.parametrize("function", ACCEPTED)
def test_listed_operators_run_as_in_torch(wrap: Wrap, function: Function) -> None:
    x = torch.rand(2, 4, 6, 6)
    expected = function(x)
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(wrap(function)(x), expected, check_dtype=False)


def test_recurrent_layers_take_one_direction_and_one_layer() -> None:
    x = torch.rand(5, 2, 3)
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4)
    torch.testing.assert_close(poptorch.inferenceModel(First(lstm))(x), lstm(x)[0])
    with pytest.raises(poptorch.Error, match="num_layers=1, bidirectional=False"):
        poptorch.inferenceModel(First(nn.LSTM(3, 4, bidirectional=True))).compile(x)


class First(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)[0]
        return result


def test_an_operator_without_shape_function_is_refused(wrap: Wrap) -> None:
    library: Any = torch.library.Library("host_test_opaque", "DEF")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    with pytest.raises(poptorch.Error, match="Type inference failed for host_test_opaque::twice"):
        wrap(lambda x: torch.ops.host_test_opaque.twice(x)).compile(torch.rand(2))


def test_an_operator_that_lowers_to_a_listed_one_passes(wrap: Wrap) -> None:
    library: Any = torch.library.Library("host_test_known", "DEF")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    library.impl("twice", lambda x: torch.empty_like(x), "Meta")
    executor = wrap(lambda x: torch.ops.host_test_known.twice(x))
    with pytest.raises(poptorch.Error, match=r"\[host_test_known::twice\]"):
        executor.compile(torch.rand(2))
    host.register_operator("host_test_known::twice", lowers_to="aten::mul")
    torch.testing.assert_close(executor(torch.ones(2)), torch.full((2,), 2.0))


def test_an_unregistered_custom_operator_is_refused_with_its_line(wrap: Wrap) -> None:
    refused(
        wrap,
        lambda x: poptorch.custom_op([x], "Absent", "test.capture", 1, example_outputs=[x]),
        "Unable to find op test.capture.Absent:1",
    )
