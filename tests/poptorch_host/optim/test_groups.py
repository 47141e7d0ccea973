"""Groups of weights with settings and schedules of their own (1.10, 2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import OneWeight
from tests.poptorch_host.optim.two_layers import (
    Network,
    assert_same_weights,
    batch,
    options,
    plain_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_groups_have_rates_and_decays_of_their_own() -> None:
    model, reference = Network(), Network()

    def groups(network: Network) -> List[Dict[str, Any]]:
        return [
            {"params": network.body.parameters(), "lr": 0.3, "weight_decay": 0.5},
            {"params": network.head.parameters(), "momentum": 0.0},
        ]  # the normalisation is in no group: not updated

    ours = optim.SGD(groups(model), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(groups(reference), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options(1, 1), ours)
    data = batch(1)
    for _ in range(2):
        executor(*data)
        plain_step(reference, theirs, data, blocks=1)
    assert_same_weights(model, reference)
    assert torch.equal(model.norm.weight, torch.ones(4))


def test_a_schedule_is_seen_by_set_optimizer_only() -> None:
    # 2.8, trap 4
    model = OneWeight()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(torch.ones(1))
    optimizer.step()
    schedule.step()
    assert model.weight.item() == pytest.approx(0.5)
    executor(torch.ones(1))
    assert model.weight.item() == pytest.approx(0.0)
    executor.setOptimizer(optimizer)
    executor(torch.ones(1))
    assert model.weight.item() == pytest.approx(-0.05)


def test_the_number_of_groups_is_fixed() -> None:
    model = Network()
    optimizer = torch.optim.SGD(model.body.parameters(), 0.1)
    executor = poptorch.trainingModel(model, options(1, 1), optimizer)
    optimizer.add_param_group({"params": list(model.norm.parameters())})
    executor.setOptimizer(optimizer)  # not compiled yet
    executor.compile(*batch(1))
    optimizer.add_param_group({"params": list(model.head.parameters())})
    with pytest.raises(poptorch.Error, match=r"it had 2 groups of weights .*now it has 3"):
        executor.setOptimizer(optimizer)


def test_every_group_s_schedule_is_taken() -> None:
    # 1.10: rates and momenta of three groups change per batch
    model, reference = Network(), Network()

    def groups(network: Network) -> List[Dict[str, Any]]:
        parts = (network.body, network.norm, network.head)
        return [{"params": list(part.parameters())} for part in parts]

    ours: Any = optim.SGD(groups(model), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(groups(reference), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options(1, 1), ours)
    data = batch(1)
    for step in range(3):
        for optimizer in (ours, theirs):
            for index, group in enumerate(optimizer.param_groups):
                group["lr"], group["momentum"] = 0.1 / (step + index + 1), 0.5 + 0.1 * step
        executor.setOptimizer(ours)
        executor(*data)
        plain_step(reference, theirs, data, blocks=1)
    assert_same_weights(model, reference)
