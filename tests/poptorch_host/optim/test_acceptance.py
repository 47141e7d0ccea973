"""Which optimizers are taken, and which of their attributes."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

import poptorch_host as poptorch
from tests.poptorch_host.optim.one_weight import OneWeight

pytestmark = pytest.mark.usefixtures("one_thread")


def test_other_optimizers_are_refused() -> None:
    model = OneWeight()
    words = "Unsupported optimizer type. Types supported "
    with pytest.raises(AssertionError, match=words):
        poptorch.trainingModel(model, optimizer=torch.optim.Adagrad(model.parameters()))
    executor = poptorch.trainingModel(model)  # the failure left the model as it was
    with pytest.raises(AssertionError, match=words):
        executor.setOptimizer(torch.optim.Adadelta(model.parameters()))
    with pytest.raises(ValueError, match="Only non-amsgrad"):
        executor.setOptimizer(torch.optim.Adam(model.parameters(), amsgrad=True))
    with pytest.raises(ValueError, match="none of the parameters"):
        executor.setOptimizer(torch.optim.Adam(copy.deepcopy(model).parameters()))


@pytest.mark.parametrize("relaxed", [False, True])
def test_unexpected_attributes_are_named_once(
    caplog: pytest.LogCaptureFixture, relaxed: bool
) -> None:
    class Tuned(torch.optim.SGD):
        """Its own step is never run."""

    model = OneWeight()
    groups = [{"params": list(model.parameters()), "warmth": 3}]
    optimizer: Any = Tuned(groups, lr=0.1, maximize=True)
    optimizer.colour = "red"
    chosen = poptorch.Options().relaxOptimizerAttributesChecks(relaxed)
    with caplog.at_level(logging.DEBUG, logger="poptorch::python"):
        executor = poptorch.trainingModel(model, chosen, optimizer)
        executor.setOptimizer(optimizer)
    expected = [
        "Tuned is treated as SGD: Python code of an optimizer is not run on the device, only its"
        " attributes are read",
        "Ignoring unexpected default group variable in Tuned optimizer: ['maximize']",
        "Ignoring unexpected group 0 attribute in Tuned optimizer: ['warmth', 'maximize']",
        "Ignoring unexpected optimizer attribute in Tuned optimizer: ['colour']",
    ]
    assert [record.getMessage() for record in caplog.records] == expected
    level = logging.DEBUG if relaxed else logging.WARNING
    assert {record.levelno for record in caplog.records} == {level}
