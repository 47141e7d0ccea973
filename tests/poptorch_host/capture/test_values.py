"""Capture refuses on a laptop what the IPU refuses: what depends on values (2.4, 3.2).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from tests.poptorch_host.capture.refusal import CONSTANT, Function, Wrap, refused

DYNAMIC: List[Function] = [
    lambda x: x.nonzero(),
    lambda x: x[x > 0.5],
    lambda x: x.masked_select(x > 0.5),
    lambda x: torch.unique(x),
    lambda x: torch.where(x > 0.5),
    lambda x: torch.argwhere(x),
    lambda x: torch.unique_consecutive(x),
]


@pytest.mark.parametrize("function", DYNAMIC)
def test_data_dependent_shapes_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "the output shape is determined by the tensor values")


READS: List[Function] = [
    lambda x: x.sum().item(),
    lambda x: int(x.sum()),
    lambda x: float(x.sum()),
    lambda x: x if x.sum() > 0 else -x,
    lambda x: x.tolist(),
    lambda x: x.numpy(),
    lambda x: x[: x.sum().long()],
    lambda x: [1, 2, 3][x.sum().long()],
    lambda x: x if torch.equal(x, x) else -x,
    lambda x: x if torch.allclose(x, x) else -x,
    lambda x: x * torch.tensor([2.0]).item(),
    lambda x: x * torch.tensor([2.0, 3.0]).tolist()[0],
    lambda x: x * float(torch.tensor(2.0)),
    lambda x: x * CONSTANT[1].item(),
    lambda x: x * CONSTANT.tolist()[1],
    lambda x: torch.arange(x.sum()),  # type: ignore[call-overload]
    lambda x: x.sum() in x,
    lambda x: f"{x.sum():.3f}",
]


@pytest.mark.parametrize("function", READS)
def test_reads_of_values_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "is only supported in eager mode|Expected an IPU tensor")


@pytest.mark.parametrize(
    "function", [lambda x: [1, 2][x.sum().long()], lambda x: f"{x.sum():.1f}", lambda x: -int(x[0])]
)
def test_a_read_of_one_value_is_called_item(wrap: Wrap, function: Function) -> None:
    with pytest.raises(poptorch.Error, match="aten::item is only supported in eager mode"):
        wrap(function).compile(torch.rand(1))


def test_printed_tensors_have_no_values_while_captured(
    wrap: Wrap, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1.1, 2.4
    def show(x: Tensor) -> Tensor:
        print(x)
        print(f"{x} {x!r}")
        poptorch.print(x)
        return x

    wrap(show).compile(torch.rand(4, 3))
    shown = capsys.readouterr().out
    assert shown.count("<unavailable>") == 4
    assert shown.count("size=(4, 3)") == 4


def test_reading_a_buffer_is_refused() -> None:
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.item()

    with pytest.raises(poptorch.Error, match="aten::item is only supported in eager mode"):
        poptorch.inferenceModel(Scaled()).compile(torch.rand(2))
