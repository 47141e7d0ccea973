"""Automatic loss scaling follows the half gradients of each weight update (1.4, 2.8)."""

from __future__ import annotations

import copy
from typing import Any, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim

pytestmark = pytest.mark.usefixtures("one_thread")


class Product(nn.Module):
    """The loss is the sum of weight * x in half: the gradient is x times the loss scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.weight * x, "sum")


def start(loss_scaling: float, lr: float = 0.125, accumulation: int = 1) -> Any:
    model = Product().half()
    options = poptorch.Options()
    options.Training.setAutomaticLossScaling(True).gradientAccumulation(accumulation)
    optimizer = optim.SGD(model.parameters(), lr=lr, loss_scaling=loss_scaling)
    return model, optimizer, poptorch.trainingModel(model, options, optimizer)


def factor(optimizer: optim.SGD) -> float:
    return float(optimizer.state_dict()["ipu_param"]["lossScaleUpdateFactor"])


def test_the_scale_doubles_until_gradients_are_large() -> None:
    # gradients 1024, 2048, 4096 are below an eighth of half's range (8188), 8192 is above
    model, optimizer, executor = start(1024.0)
    factors: List[float] = []
    for _ in range(5):
        executor(torch.ones(1).half())
        factors.append(factor(optimizer))
    assert factors == [2.0, 4.0, 8.0, 4.0, 8.0]
    assert model.weight.item() == 1 - 5 * 0.125  # whatever the scale was


def test_the_scale_stays_a_number_of_half() -> None:
    _, optimizer, executor = start(2.0**14)
    for _ in range(3):
        executor(torch.full((1,), 0.001).half())
    assert factor(optimizer) == 2.0


def test_gradients_that_overflow_halve_the_scale_and_change_nothing() -> None:
    model, optimizer, executor = start(1024.0, lr=2.0**-7)
    x = torch.full((1,), 128.0).half()  # 131072, then 65536 overflow, 32768 does not
    weights = []
    for _ in range(3):
        executor(x)
        weights.append(model.weight.item())
    assert weights == [1.0, 1.0, 0.0]
    assert factor(optimizer) == 0.125


def test_one_large_micro_batch_of_an_update_is_enough() -> None:
    model, optimizer, executor = start(1024.0, accumulation=2)
    executor(torch.tensor([1.0, 16.0]).half())
    assert factor(optimizer) == 0.5
    assert model.weight.item() == 1 - 0.125 * 8.5


def test_the_factor_is_part_of_the_state() -> None:
    _, optimizer, executor = start(1024.0)
    executor(torch.ones(1).half())
    state = copy.deepcopy(optimizer.state_dict())
    assert float(state["ipu_param"]["lossScaling_FLOAT"]) == 1024.0
    for compiled in (False, True):
        _, again, other = start(1024.0)
        if compiled:
            other.compile(torch.ones(1).half())
        again.load_state_dict(state)
        other(torch.ones(1).half())
        assert factor(again) == 4.0


def test_loss_scaling_is_variable() -> None:
    # 2.8: the initial value may change after compile, although it was not passed
    model = Product().half()
    options = poptorch.Options()
    options.Training.setAutomaticLossScaling(True)
    executor = poptorch.trainingModel(model, options, optim.SGD(model.parameters(), lr=0.125))
    executor(torch.ones(1).half())
    executor.setOptimizer(optim.SGD(model.parameters(), lr=0.125, loss_scaling=8.0))
    executor(torch.ones(1).half())
    assert model.weight.item() == 0.75


def test_a_float_model_is_refused() -> None:
    # 1.4: needs a half model
    model = Product()
    options = poptorch.Options()
    options.Training.setAutomaticLossScaling(True)
    executor = poptorch.trainingModel(model, options)
    with pytest.raises(poptorch.Error, match=r"setAutomaticLossScaling.*fp16.*model\.half\(\)"):
        executor(torch.ones(1))
    assert not executor.isCompiled()


def test_the_final_scale_can_be_anchored() -> None:
    # 1.7: finalLossScale; the optimizer's scale times the factor after each update
    model = Product().half()
    options = poptorch.Options().deviceIterations(2).outputMode(poptorch.OutputMode.All)
    options.anchorTensor("scale", "finalLossScale").Training.setAutomaticLossScaling(True)
    optimizer = optim.SGD(model.parameters(), lr=0.125, loss_scaling=64.0)
    executor = poptorch.trainingModel(model, options, optimizer)
    executor(torch.ones(2).half())
    assert executor.getAnchoredTensor("scale").tolist() == [128.0, 256.0]
