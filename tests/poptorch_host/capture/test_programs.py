"""What capture says of a program, leaves of it, and takes: TorchScript, graphs, tied weights."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Callable, List

import pytest
import torch
import torch.fx
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host
from tests.poptorch_host.capture.refusal import CONSTANT, Wrap


def test_the_report_counts_operators(wrap: Wrap) -> None:
    executor = wrap(lambda x: (x + 1) * 2 + 3)
    with pytest.raises(poptorch.Error, match="not compiled"):
        host.report(executor)
    executor.compile(torch.rand(2))
    assert host.report(executor).operators == {"aten::add": 2, "aten::mul": 1}
    assert host.report(executor).unsupported == []


def test_is_running_on_ipu_inside_the_executor_only(wrap: Wrap) -> None:
    seen: List[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(poptorch.isRunningOnIpu())
        return x + 1

    wrap(look)(torch.zeros(2))
    assert seen == [True, True]  # the capture, then the run
    assert not poptorch.isRunningOnIpu()


def test_a_refused_model_leaves_no_executor_running(wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error):
        wrap(lambda x: x.nonzero()).compile(torch.rand(2))
    assert not poptorch.isRunningOnIpu()
    assert type(torch.zeros(1)) is Tensor


@pytest.mark.parametrize(
    "make", [torch.jit.script, partial(torch.jit.trace, example_inputs=CONSTANT)]
)
def test_torchscript_functions_in_forward_are_captured(
    wrap: Wrap, make: Callable[..., Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in new torch
        swish = make(_swish)
    x = torch.rand(4)
    for _ in range(3):  # from the second call on it is optimised
        expected = swish(x)
    executor = wrap(lambda tensor: swish(tensor))
    torch.testing.assert_close(executor(x), expected)
    assert host.report(executor).operators == {"aten::sigmoid": 1, "aten::mul": 1}
    torch.testing.assert_close(swish(x), expected)


def _swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def test_graph_modules_are_captured() -> None:
    # torch.fx gives each of its modules a class of its own; timm's and torchvision's extractors
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    x = torch.rand(3, 2)
    torch.testing.assert_close(poptorch.inferenceModel(model)(x), model(x).detach())
    nested = nn.Sequential(model)
    torch.testing.assert_close(poptorch.inferenceModel(nested)(x), model(x).detach())


def test_attention_and_tied_weights_are_captured() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = torch.rand(2, 5, 8)
    torch.testing.assert_close(poptorch.inferenceModel(layer)(x), layer(x), rtol=1e-4, atol=1e-5)

    linear = nn.Linear(4, 4)
    tied = nn.Sequential(linear, nn.ReLU(), linear)
    x = torch.rand(2, 4)
    torch.testing.assert_close(poptorch.inferenceModel(tied)(x), tied(x))
