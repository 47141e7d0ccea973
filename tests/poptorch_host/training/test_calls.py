"""A training call runs DI * GA * R micro-batches and DI updates, as PopTorch orders them.

DI device iterations, GA gradient accumulation, R replicas. Section numbers are those of the
PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, List, Tuple

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch
from tests.poptorch_host.training.product import Product, options, rate_one

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("mode", "period", "expected"),
    [
        # weights of the two steps: 1, then 1 - mean(1, 2, 3, 4) = -1.5
        ("All", None, [1.0, 2.0, 3.0, 4.0, -7.5, -9.0, -10.5, -12.0]),
        ("EveryN", 2, [3.0, 4.0, -10.5, -12.0]),
        ("Final", None, [-10.5, -12.0]),
        ("Sum", None, [1 + 3 - 7.5 - 10.5, 2 + 4 - 9.0 - 12.0]),
        (None, None, [-10.5, -12.0]),  # Final is training's default
    ],
)
def test_outputs_come_back_by_mode_and_every_step_updates(
    mode: Any, period: Any, expected: List[float]
) -> None:
    model = Product()
    chosen = options(accumulation=2, replicas=2, iterations=2)
    if mode is not None:
        chosen.outputMode(getattr(poptorch.OutputMode, mode), period)
    executor = poptorch.trainingModel(model, chosen, rate_one(model))
    loss, _ = executor(torch.arange(1.0, 9.0))
    assert loss.tolist() == pytest.approx(expected)
    # the second step's mean gradient is 6.5
    assert model.weight.item() == pytest.approx(-1.5 - 6.5)


def test_one_replica_returns_the_last_loss_as_a_scalar() -> None:
    # Trap 3
    model = Product()
    loss, _ = poptorch.trainingModel(model, options(4), rate_one(model))(torch.arange(1.0, 5.0))
    assert loss.shape == ()
    assert loss.item() == 4.0
    assert not loss.requires_grad
    with pytest.raises(poptorch.Error, match=r"backward\(\) cannot be called explicitly"):
        loss.backward()


def test_the_batch_counts_the_accumulation() -> None:
    model = Product()
    executor = poptorch.trainingModel(model, options(4, 2, 3), rate_one(model))
    words = r"Invalid batch dimension.*gradientAccumulation\(4\) = 24"
    with pytest.raises(AssertionError, match=words):
        executor(torch.ones(12))


def test_returned_weights_are_those_of_the_run() -> None:
    class Shows(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            return super().forward(x)[0], self.weight

    model = Shows()
    chosen = options(iterations=2).outputMode(poptorch.OutputMode.All)
    _, weights = poptorch.trainingModel(model, chosen, rate_one(model))(torch.ones(2))
    assert weights.tolist() == [1.0, 0.0]
    assert model.weight.item() == -1.0


def test_training_works_where_the_caller_has_gradients_off() -> None:
    for context in (torch.no_grad(), torch.inference_mode()):
        model = Product()
        with context:
            executor = poptorch.trainingModel(model, optimizer=rate_one(model))
            x = torch.ones(1)
            executor(x)
            executor(x)
        assert model.weight.item() == -1.0
        executor(torch.ones(1))
        assert model.weight.item() == -2.0


def test_the_program_sees_that_it_runs_on_the_device() -> None:
    seen = []

    class Asks(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            seen.append((poptorch.isRunningOnIpu(), torch.is_grad_enabled()))
            return super().forward(x)

    model = Asks()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert set(seen) == {(True, True)}
