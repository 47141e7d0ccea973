"""Stochastic gradient descent: dampening, momentum, accumulators (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import logging
from typing import Any, List

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import OneWeight, weights_after

pytestmark = pytest.mark.usefixtures("one_thread")


def test_dampening_scales_the_first_gradient_too() -> None:
    # 2.8: v = 0.5 * 1 = 0.5, then 0.9 * 0.5 + 0.5 * 1 = 0.95; torch starts with v = 1.
    ours = weights_after(lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5), [1.0, 1.0])
    assert ours == pytest.approx([1 - 0.05, 1 - 0.05 - 0.095])
    combined = weights_after(
        lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5, use_combined_accum=True),
        [1.0, 1.0],
    )
    assert combined == pytest.approx(ours)


def test_combined_accumulation_takes_a_new_momentum_one_step_later() -> None:
    # 2.8: after a first step v = 1; momentum 0.9 -> 0.5 decays it to 0.5 or, combined, to 0.9.
    def run(combined: bool) -> List[float]:
        model = OneWeight()

        def make(momentum: float) -> optim.SGD:
            return optim.SGD(model.parameters(), 0.1, momentum, use_combined_accum=combined)

        executor = poptorch.trainingModel(model, optimizer=make(0.9))
        found = []
        for momentum in (0.9, 0.5, 0.5):
            executor.setOptimizer(make(momentum))
            executor(torch.ones(1))
            found.append(model.weight.item())
        return found

    assert run(False) == pytest.approx([0.9, 0.9 - 0.15, 0.9 - 0.15 - 0.175])
    assert run(True) == pytest.approx([0.9, 0.9 - 0.19, 0.9 - 0.19 - 0.195])


def test_half_state_is_kept_in_half() -> None:
    # 2.8: 1/3 rounds to 0.33325 in half; accum_type half keeps the gradient itself so, too.
    third = 1 / 3
    rounded = torch.tensor(third).half().item()
    velocity = weights_after(
        lambda p: optim.SGD(p, 1.0, momentum=0.5, velocity_accum_type=torch.float16), [third, 0.0]
    )
    assert velocity == pytest.approx([1 - third, 1 - third - rounded / 2], abs=1e-6)
    gradient = weights_after(lambda p: optim.SGD(p, 1.0, accum_type=torch.float16), [third])
    assert gradient == pytest.approx([1 - rounded], abs=1e-7)
    half: Any = {"accum_type": torch.float16, "velocity_accum_type": torch.float16}
    combined = weights_after(
        lambda p: optim.SGD(p, 1.0, momentum=0.5, use_combined_accum=True, **half), [third, 0.0]
    )
    assert combined == pytest.approx([1 - third, 1 - third * 1.5], abs=1e-7)  # types not read


def test_velocity_scaling_is_for_combined_accumulation(caplog: pytest.LogCaptureFixture) -> None:
    # 2.8, mode 2
    model = OneWeight()
    optimizer = optim.SGD(model.parameters(), 0.1, loss_scaling=2.0, velocity_scaling=4.0)
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        poptorch.trainingModel(model, optimizer=optimizer)
    assert "velocity_scaling" in caplog.text
