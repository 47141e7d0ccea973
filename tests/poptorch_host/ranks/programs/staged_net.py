"""A small net with what stages make hard, and its runs on ranks and in one process."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

CLASSES = 3


class StagedNet(nn.Module):
    """Batch norm, dropout, a skip over all stages, integers that pass through, tied weights."""

    def __init__(self, ipus: Tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.tied = nn.Linear(4, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)
        self.frozen = nn.Parameter(torch.rand(4), requires_grad=False)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("mean", torch.zeros(4))
        for ipu, module in zip(ipus, (self.mix, self.dropout, self.head)):
            poptorch.BeginBlock(module, ipu_id=ipu)

    mean: Tensor

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """(B, 3, 8, 8) and (B,) -> logits (B, CLASSES), predictions (B,), loss ()."""
        features = F.relu(self.norm(self.conv(images))).mean((2, 3))  # (B, 4)
        shifted = labels + 1  # integers made in the first stage, used in the last
        x = torch.tanh(self.mix(torch.tanh(self.tied(features) * self.frozen)))
        self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        x = self.dropout(x)
        x = torch.tanh(self.tied(x))
        logits = self.head(x + features)
        return logits, logits.argmax(1), F.cross_entropy(logits, shifted - 1)


class Case(NamedTuple):
    """One way to train it."""

    ipus: Tuple[int, int, int] = (1, 2, 3)
    replicas: int = 1
    optimizer: str = "sgd"
    mode: poptorch.OutputMode = poptorch.OutputMode.All
    period: int = 1
    sharded: bool = False
    reduction: str = "Mean"
    running: bool = False


class Run(NamedTuple):
    """What a program sees of six updates, and of inference after them."""

    outputs: List[Any]
    weights: Dict[str, Tensor]
    state: Dict[str, Tensor]
    predicted: Any
    ticks: Dict[str, int]


def train(case: Case, schedule: str) -> Run:
    """Train for three calls of two updates each."""
    host.configure(schedule=schedule)
    torch.manual_seed(0)
    model = StagedNet(case.ipus)
    options = _options(case).deviceIterations(2)
    options.Training.gradientAccumulation(7)
    options.Training.accumulationAndReplicationReductionType(
        getattr(poptorch.ReductionType, case.reduction)
    )
    if case.running:
        options.Training.setMeanAccumulationAndReplicationReductionStrategy(
            poptorch.MeanReductionStrategy.Running
        )
    options.outputMode(case.mode, case.period)
    optimizer = _optimizer(case, model)
    executor = poptorch.trainingModel(model, options, optimizer)
    outputs = []
    for call in range(3):
        outputs.append(executor(*_batch(call, 2 * 7 * case.replicas)))
    ticks = {name: len(values[0]) for name, values in executor.getPerfCounters().items()}
    assert all(low <= high for low, high, _ in (executor.getLatency(),))
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    inference = poptorch.inferenceModel(model, _options(case).deviceIterations(4))
    predicted = inference(*_batch(9, 4 * case.replicas))
    state = optimizer.state_dict()["ipu_state"]
    executor.destroy()
    return Run(outputs, weights, state, predicted, ticks)


def _options(case: Case) -> poptorch.Options:
    options = poptorch.Options().randomSeed(3).replicationFactor(case.replicas)
    options.broadcastBuffers(False).autoRoundNumIPUs(True)
    if case.sharded:
        options.setExecutionStrategy(poptorch.ShardedExecution())
    return options


def _optimizer(case: Case, model: nn.Module) -> Union[poptorch.optim.SGD, poptorch.optim.Adam]:
    if case.optimizer == "sgd":
        return poptorch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, loss_scaling=8.0
        )
    return poptorch.optim.Adam(model.parameters(), lr=0.01, max_grad_norm=0.05)


def _batch(number: int, micro_batches: int) -> Tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(4 * micro_batches, 3, 8, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (4 * micro_batches,), generator=generator)
    return images, labels


def check_equal(case: Case, *schedules: str) -> None:
    """Assert that a case on ranks, under each schedule, is what one process makes of it."""
    expected = train(case, "sequential")
    for schedule in schedules:
        for name, wanted, got in zip(Run._fields, expected, train(case, schedule)):

            def where(text: str, name: str = name, schedule: str = schedule) -> str:
                return f"{case}, {schedule}, {name}: {text}"

            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=where)
    host.configure(schedule="auto")
