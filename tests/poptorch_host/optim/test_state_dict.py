"""An optimizer's state: what it holds, and training that goes on from it."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import OneWeight
from tests.poptorch_host.optim.two_layers import Network, batch, options

pytestmark = pytest.mark.usefixtures("one_thread")


def test_state_dict_holds_the_device_s_state() -> None:
    model = OneWeight()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    assert optimizer.state_dict() is None
    executor(torch.full((1,), 2.0))
    assert optimizer.ipu_state_is_dirty
    state = optimizer.state_dict()
    assert set(state) == {"ipu_state", "ipu_param", "state", "param_groups"}
    assert state["state"] == {}
    first, second, step = (f"{kind}___weight" for kind in ("Accl1", "Accl2", "Step"))
    assert state["ipu_state"][first].item() == pytest.approx(0.1 * 2)
    assert state["ipu_state"][second].item() == pytest.approx(0.001 * 4)
    assert state["ipu_state"][step].item() == 1
    assert state["ipu_param"]["learningRate___specific___weight"].item() == pytest.approx(0.1)
    assert not optimizer.ipu_state_is_dirty


def test_plain_descent_names_its_parameters_as_popart() -> None:
    model = OneWeight()
    optimizer = optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    poptorch.trainingModel(model, optimizer=optimizer).compile(torch.ones(1))
    parameters = optimizer.state_dict()["ipu_param"]
    assert parameters["weightDecayScaleFactor0___specific___weight"].item() == pytest.approx(0.95)
    assert parameters["scaledLearningRate0___specific___weight"].item() == 0.5
    assert parameters["lossScaling_FLOAT"].item() == 1.0


@pytest.mark.parametrize("compiled", [False, True])
def test_training_goes_on_from_a_state_dict(compiled: bool) -> None:
    def start(model: nn.Module, lr: float = 0.01) -> Any:
        optimizer = optim.AdamW(model.parameters(), lr=lr)
        return optimizer, poptorch.trainingModel(model, options(2, 1), optimizer)

    data = batch(2)
    model = Network()
    optimizer, executor = start(model)
    executor(*data)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    executor(*data)

    resumed = Network()
    again, other = start(resumed, lr=0.5)
    if compiled:
        other(*data)
    other.load_state_dict(weights)
    again.load_state_dict(state)  # the learning rate comes with it
    other(*data)
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_state_of_other_weights_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = OneWeight()
    optimizer = optim.Adam(model.parameters())
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(torch.ones(1))
    optimizer.load_state_dict({"ipu_state": {"Accl1___other": torch.ones(1)}, "ipu_param": {}})
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        executor(torch.ones(1))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "of no weight of this model is ignored: ['Accl1___other']" in text
    assert "lacks these weights: ['weight']" in text


def test_a_copied_optimizer_keeps_its_attributes() -> None:
    original = optim.SGD([nn.Parameter(torch.ones(1))], 0.1, loss_scaling=8.0)
    copied = copy.deepcopy(original)
    assert copied.loss_scaling == 8.0
    assert not copied.variable_attrs.isConstant("loss_scaling")
    assert copied.state_dict() is None
