"""Capture refuses on a laptop what the IPU refuses: tensors of other devices (2.4).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import logging
from typing import List

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from tests.poptorch_host.capture.refusal import CONSTANT, Function, Wrap, refused

INDICES = torch.tensor([0, 2])

MOVES: List[Function] = [
    lambda x: x.cpu(),
    lambda x: x.to("cpu"),
    lambda x: x.to(torch.device("cpu")),
    lambda x: x.to(device="cpu"),
    lambda x: x.cuda(),
]


@pytest.mark.parametrize("function", MOVES)
def test_moves_to_another_device_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "Illegal move to ")


def test_a_move_to_a_tensors_own_device_is_no_move(wrap: Wrap) -> None:
    executor = wrap(lambda x: (x + 1).to(x.device) * torch.ones(4, device=x.device))
    torch.testing.assert_close(executor(torch.zeros(2, 4)), torch.ones(2, 4))


IPU: List[Function] = [
    lambda x: x + torch.ones(4, device="ipu"),
    lambda x: x + torch.tensor([1.0], device=torch.device("ipu:0")),
    lambda x: x.to("ipu") + 1,
    lambda x: x.to("ipu", non_blocking=True) + 1,
    lambda x: x.to("ipu", torch.float16).float() + 1,
    lambda x: x.to(device="ipu", dtype=torch.float16).float() + 1,
    lambda x: x + torch.ones_like(x, device="ipu"),
    lambda x: x.ipu() + torch.arange(1, 2).ipu(),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("function", IPU)
def test_the_device_may_be_named(wrap: Wrap, function: Function) -> None:
    # 2.4: what runs on the device is on "ipu" already.
    torch.testing.assert_close(wrap(function)(torch.zeros(2, 4)), torch.ones(2, 4))


def test_the_device_may_be_named_in_training() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            scale = torch.tensor([2.0], device="ipu")
            return poptorch.identity_loss(x.to("ipu") * self.weight * scale, "sum")

    model = Model()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.25)
    assert poptorch.trainingModel(model, optimizer=optimizer)(torch.ones(1)).item() == 2.0
    assert model.weight.item() == 0.5


def test_a_detached_tensor_hands_out_the_same_device(wrap: Wrap) -> None:
    # Once refused: newer torch shows `detach` to the dispatcher, and its result went unnoticed.
    executor = wrap(lambda x: x + torch.ones(4, device=x.detach().float().device))
    torch.testing.assert_close(executor(torch.zeros(2, 4)), torch.ones(2, 4))


CPU_TENSORS: List[Function] = [
    lambda x: x + CONSTANT[0],
    lambda x: x[:, INDICES],
    lambda x: x + torch.zeros(6, device="cpu"),
    lambda x: x + torch.from_numpy(np.ones(6, dtype=np.float32)),
    lambda x: x + torch.Tensor([1.0]),
]


@pytest.mark.parametrize("function", CPU_TENSORS)
def test_tensors_of_the_host_do_not_mix(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "Expected an IPU tensor but got tensor\\(device=cpu")


def test_factories_without_device_are_redirected_with_one_warning(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    executor = wrap(lambda x: x + torch.ones(3) + torch.arange(3) + torch.tensor([1.0, 2.0, 3.0]))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result = executor(torch.zeros(2, 3))
    torch.testing.assert_close(result, torch.tensor([[2.0, 4.0, 6.0]] * 2))
    assert len([r for r in caplog.records if "without a device" in r.getMessage()]) == 1
