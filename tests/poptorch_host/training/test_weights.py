"""Weights that are shared or in half, and buffers that a training writes.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.training.product import Product, options, rate_one

pytestmark = pytest.mark.usefixtures("one_thread")


def test_tied_weights_are_updated_once() -> None:
    # 2.5: y = w * (w * x), so the gradient is 2 w x = 2
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(1, 1, bias=False)
            self.second = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.first.weight)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.second(self.first(x)), "sum")

    model = Tied()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1, 1))
    assert model.first.weight.item() == -1.0
    assert model.second.weight is model.first.weight


def test_half_weights_accumulate_in_float() -> None:
    # 2.9: 2048 + 1 is 2048 in half; the accumulator holds 2049, whose mean rounds to 1024 + ...
    model = Product().half()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    chosen = options(2)
    chosen.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
    poptorch.trainingModel(model, chosen, optimizer)(torch.tensor([2048.0, 1.0]).half())
    assert model.weight.dtype == torch.float16
    assert model.weight.item() == 1 - 2049.0  # -2048; without the 1 it would round to -2047


class Averages(Product):
    """Keeps a moving average of its outputs, written in place from a tensor with a gradient."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        y = self.weight * x
        self.average.mul_(0.5).add_(y.mean())
        return poptorch.identity_loss(y, "mean"), x


def test_buffers_written_in_place_persist_without_gradient() -> None:
    model = Averages()
    executor = poptorch.trainingModel(model, options(2), rate_one(model))
    executor(torch.tensor([2.0, 4.0]))
    assert model.average.item() == 2.0 * 0.5 + 4.0
    assert model.weight.item() == 1.0 - 3.0


def test_buffers_written_in_place_need_leave_to_differ_between_replicas() -> None:
    model = Averages()
    executor = poptorch.trainingModel(model, options(1, 2), rate_one(model))
    words = r"PopTorch does not support broadcasting buffers\..*broadcastBuffers\(False\)"
    with pytest.raises(poptorch.Error, match=words):
        executor(torch.ones(2))
    executor.destroy()
    allowed = options(1, 2).broadcastBuffers(False)
    poptorch.trainingModel(model, allowed, rate_one(model))(torch.tensor([2.0, 4.0]))
    assert model.average.item() == 2.0  # the first replica's
