"""The norm of gradients is bounded over all weights (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import Make, weights_after

pytestmark = pytest.mark.usefixtures("one_thread")


def test_clipping_bounds_the_norm_over_all_weights() -> None:
    # 2.8: gradients 3 and 4 have norm 5; max 1 leaves 0.6 and 0.8. Loss scaling changes nothing.
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(1))
            self.b = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(3 * self.a * x + 4 * self.b * x, "sum")

    model = Two()
    clipped = optim.SGD(model.parameters(), lr=1.0, max_grad_norm=1.0, loss_scaling=32.0)
    executor = poptorch.trainingModel(model, optimizer=clipped)
    executor(torch.ones(1))
    assert [model.a.item(), model.b.item()] == pytest.approx([-0.6, -0.8])
    executor(torch.full((1,), 0.1))  # norm 0.5: not clipped
    assert [model.a.item(), model.b.item()] == pytest.approx([-0.9, -1.2])


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_every_optimizer_that_has_a_limit_clips(kind: str) -> None:
    # 2.8: gradients of 20 and 5 clipped to 2 do what gradients of 2 do
    def make(limit: float) -> Make:
        return lambda p: getattr(optim, kind)(p, lr=0.1, max_grad_norm=limit)

    clipped = weights_after(make(2.0), [20.0, 5.0])
    assert clipped == pytest.approx(weights_after(make(math.inf), [2.0, 2.0]))
    assert clipped != pytest.approx(weights_after(make(math.inf), [20.0, 5.0]), rel=1e-4)
