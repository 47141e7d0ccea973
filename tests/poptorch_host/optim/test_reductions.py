"""How gradients of micro-batches and replicas become one, and the loss's scale (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import OneWeight
from tests.poptorch_host.optim.two_layers import options

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("Post", 2.5), ("Running", 2.5), ("Sum", 10.0)],  # of gradients 1, 2, 3, 4
)
def test_gradients_of_accumulation_and_replicas_are_reduced(strategy: str, expected: float) -> None:
    model = OneWeight(0.0)
    chosen = options(accumulation=2, replicas=2)
    if strategy == "Sum":
        chosen.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
    else:
        chosen.Training.setMeanAccumulationAndReplicationReductionStrategy(
            getattr(poptorch.MeanReductionStrategy, strategy)
        )
    optimizer = optim.SGD(model.parameters(), lr=1.0, loss_scaling=4.0)
    poptorch.trainingModel(model, chosen, optimizer)(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert model.weight.item() == pytest.approx(-expected)


def test_a_running_mean_fits_where_a_sum_overflows_half() -> None:
    # 4 * 40000 is infinite in half, their running mean is not: half accumulators force it (1.4).
    model = OneWeight(0.0)
    optimizer = optim.SGD(model.parameters(), lr=1.0, accum_type=torch.float16)
    executor = poptorch.trainingModel(model, options(4, 1), optimizer)
    executor(torch.full((4,), 40000.0))
    assert model.weight.item() == -40000.0


def test_loss_scaling_saves_small_half_gradients() -> None:
    # 2.8: the gradient 2**-25 is zero in half, 2**-15 is not; the scale is divided out in float32
    def moved(scale: float) -> float:
        model = OneWeight(0.0).half()
        optimizer = optim.SGD(model.parameters(), lr=2.0**20, loss_scaling=scale)
        executor = poptorch.trainingModel(model, options(1, 1), optimizer)
        executor(torch.tensor([2.0**-24, 0.0]).half())
        return float(model.weight.float().item())

    assert moved(1.0) == 0.0
    assert moved(1024.0) == -(2.0**-5)
