"""A training's executable in a file (2.11).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.training.product import options

pytestmark = pytest.mark.usefixtures("one_thread")


class Stored(nn.Module):
    """As `Product`, with nothing local, so that it can be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.weight * x, "mean")


def test_a_saved_training_executable_goes_on(tmp_path: Path) -> None:
    def start() -> Tuple[Stored, Any]:
        model = Stored()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, loss_scaling=2.0)
        return model, poptorch.trainingModel(model, options(2), optimizer)

    model, executor = start()
    data = torch.tensor([1.0, 3.0])
    executor(data)
    executor.save(tmp_path / "step")
    executor(data)
    loaded = poptorch.load(tmp_path / "step")
    assert type(loaded.model).__name__ == "PoptorchStored"
    loaded(data)
    assert (
        loaded.model.get_parameter("weight").item() == model.weight.item()
    )  # the momentum came along

    bare = tmp_path / "bare"
    start()[1].compileAndExport(bare, data, export_model=False)
    other, fresh = start()
    fresh.loadExecutable(bare)
    fresh(data)
    assert other.weight.item() == pytest.approx(1 - 0.1 * 2)
    with pytest.raises(poptorch.Error, match=r"Invalid file .*other options|for training"):
        poptorch.inferenceModel(Stored()).loadExecutable(bare)
