"""The learning rate as a function of the step."""

from __future__ import annotations

import pytest

from detectors.experiment.learning_rate import learning_rate
from detectors.experiment.recipe import OptimSettings, Schedule


def test_warm_up_is_linear_from_its_factor() -> None:
    rate = learning_rate(OptimSettings(lr=0.02, warmup_steps=100, warmup_factor=0.001), 16, 18000)
    assert rate(0) == pytest.approx(0.02 * 0.001)
    assert rate(50) == pytest.approx(0.02 * (0.001 + 1) / 2)
    assert rate(99) == pytest.approx(0.02 * (0.001 * 1 + 99) / 100)
    assert rate(100) == 0.02


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert learning_rate(OptimSettings(lr=0.5, warmup_steps=0), 16, 10)(0) == 0.5


def test_steps_multiply_by_gamma_from_that_step_on() -> None:
    optim = OptimSettings(lr=1.0, warmup_steps=0, steps=[12000, 16000], gamma=0.1)
    rate = learning_rate(optim, 16, 18000)
    found = [rate(step) for step in (11999, 12000, 15999, 16000, 17999)]
    assert found == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_falls_to_zero_after_the_warm_up() -> None:
    optim = OptimSettings(lr=2.0, warmup_steps=10, schedule=Schedule.cosine)
    rate = learning_rate(optim, 16, 110)
    assert [rate(step) for step in (10, 60, 110, 200)] == pytest.approx([2.0, 1.0, 0.0, 0.0])


def test_constant_stays() -> None:
    optim = OptimSettings(lr=2.0, warmup_steps=0, schedule=Schedule.constant, steps=[5])
    assert learning_rate(optim, 16, 10)(9) == 2.0


def test_scaled_rates_grow_with_the_images_of_a_step() -> None:
    optim = OptimSettings(lr=0.02, warmup_steps=0, scale_lr=True, base_batch=16)
    assert learning_rate(optim, 64, 10)(0) == pytest.approx(0.08)
    assert learning_rate(OptimSettings(lr=0.02, warmup_steps=0), 64, 10)(0) == 0.02
