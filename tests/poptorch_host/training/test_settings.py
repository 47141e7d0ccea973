"""Seeds, pipelines, synthetic data: what options and settings mean to a training.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host
from tests.poptorch_host.training.product import Product, options, rate_one

pytestmark = pytest.mark.usefixtures("one_thread")


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.drop(self.layer(x)).square(), "mean")


def test_a_seed_makes_training_repeat() -> None:
    def run(seed: int) -> Tensor:
        model = Drops()
        chosen = options(2).randomSeed(seed)
        executor = poptorch.trainingModel(model, chosen, rate_one(model))
        torch.manual_seed(seed + 1)  # the program's own random numbers play no part
        for _ in range(2):
            executor(torch.ones(4, 8))
        return model.layer.weight.detach()

    assert torch.equal(run(7), run(7))
    assert not torch.equal(run(7), run(8))


def pipeline(stages: int) -> Any:
    layers = [poptorch.BeginBlock(nn.Linear(4, 4), ipu_id=index) for index in range(stages)]

    class Pipeline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.layers(x), "mean")

    return Pipeline()


def test_a_pipeline_needs_a_micro_batch_for_each_stage_there_and_back() -> None:
    model = pipeline(4)
    words = r"gradientAccumulation must be greater than or equal to the number of pipeline stages"
    with pytest.raises(poptorch.Error, match=words + r" \(7\)"):
        poptorch.trainingModel(model, options(6), rate_one(model))(torch.ones(6, 4))
    model.destroy()
    executor = poptorch.trainingModel(model, options(7), rate_one(model))
    executor(torch.ones(7, 4))
    assert len(host.report(executor).stages) == 4
    model.destroy()
    sharded = options(1).setExecutionStrategy(
        poptorch.ShardedExecution(poptorch.AutoStage.AutoIncrement)
    )
    poptorch.trainingModel(model, sharded, rate_one(model))(torch.ones(1, 4))


def test_instances_need_a_launcher() -> None:  # 2.14
    chosen = poptorch.Options()
    chosen.Distributed.configureProcessId(0, 2)
    model = Product()
    executor = poptorch.trainingModel(model, chosen, rate_one(model))
    with pytest.raises(poptorch.Error, match=r"MASTER_PORT are not set: .*torchrun"):
        executor(torch.ones(1))


def test_the_compiling_engine_is_for_inference(configure: Callable[..., object]) -> None:
    configure(engine="compile")
    model = Product()
    with pytest.raises(poptorch.Error, match="needs engine='eager'"):
        poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))


def test_synthetic_data_trains_nothing() -> None:
    model = Product()
    chosen = poptorch.Options().enableSyntheticData(True)
    loss, _ = poptorch.trainingModel(model, chosen, rate_one(model))(torch.ones(1))
    assert loss.item() == 0.0
    assert model.weight.item() == 1.0
