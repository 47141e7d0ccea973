"""An executor has weights and buffers of its own, which move by request (2.5, 2.7)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.5: weights ------------------------------------------------------------------------------


def test_weights_of_the_host_reach_the_device_by_request_only() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    executor = poptorch.inferenceModel(model)
    x = torch.ones(1, 1)
    assert executor(x).item() == 2.0
    with torch.no_grad():
        model.weight.fill_(3.0)
    assert executor(x).item() == 2.0
    executor.copyWeightsToDevice()
    assert executor(x).item() == 3.0
    executor.load_state_dict({"weight": torch.full((1, 1), 4.0)})
    assert executor(x).item() == 4.0
    assert model.weight.item() == 4.0
    model.load_state_dict({"weight": torch.full((1, 1), 5.0)})
    assert executor(x).item() == 4.0
    executor.copyWeightsToHost()
    assert model.weight.item() == 4.0
    assert executor.copyWeightsToHostIfNeeded() is False


def test_weights_move_only_after_compile() -> None:
    executor = poptorch.inferenceModel(nn.Linear(1, 1))
    for call in (executor.copyWeightsToHost, executor.copyWeightsToDevice):
        with pytest.raises(poptorch.Error, match="Model has not been compiled or has been destr"):
            call()


def test_a_weight_used_twice_is_one_weight() -> None:
    linear = nn.Linear(1, 1, bias=False)
    executor = poptorch.inferenceModel(nn.Sequential(linear, linear))
    nn.init.constant_(linear.weight, 3.0)
    assert executor(torch.ones(1, 1)).item() == 9.0
    executor.load_state_dict({"0.weight": torch.full((1, 1), 2.0)}, strict=False)
    assert executor(torch.ones(1, 1)).item() == 4.0


def test_a_caller_in_inference_mode_changes_nothing() -> None:
    model = Counter()
    with torch.inference_mode():
        x = torch.zeros(1)
        executor = poptorch.inferenceModel(model)
        assert executor(x).item() == 1.0 + 1
    assert executor(torch.zeros(1)).item() == 2.0 + 1
    executor.copyWeightsToHost()
    executor.copyWeightsToDevice()
    assert executor(x).item() == 3.0 + 1


# ---- 2.7: buffers ------------------------------------------------------------------------------


class Counter(nn.Module):
    total: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.total += 1.0
        self.steps += 1
        return x + self.total + self.steps


def test_float_buffers_persist_and_integer_buffers_are_constants() -> None:
    model = Counter()
    executor = poptorch.inferenceModel(model, options(deviceIterations=2))
    assert executor(torch.zeros(2)).tolist() == [2.0, 3.0]
    assert executor(torch.zeros(2)).tolist() == [4.0, 5.0]
    assert model.total.item() == 0.0
    executor.copyWeightsToHost()
    assert model.total.item() == 4.0
    assert model.steps.item() == 0


def test_named_buffers_are_updated_without_weights() -> None:
    class Shift(nn.Module):
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("shift", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.shift

    model = Shift()
    executor = poptorch.inferenceModel(model, options(updatableNamedBuffers=["shift"]))  # type: ignore[arg-type]
    assert executor(torch.ones(1)).item() == 1.0
    with torch.no_grad():
        model.weight.fill_(10.0)
        model.shift.fill_(2.0)
    executor.copyNamedBuffersToDevice()
    assert executor(torch.ones(1)).item() == 3.0
    other = poptorch.inferenceModel(model)
    other.compile(torch.ones(1))
    with pytest.raises(poptorch.Error, match="No named buffers marked as updatable"):
        other.copyNamedBuffersToDevice()


def test_replicas_have_buffers_of_their_own_when_allowed() -> None:
    replicated = options(replicationFactor=2)
    with pytest.raises(poptorch.Error, match="does not support broadcasting buffers"):
        poptorch.inferenceModel(Counter(), replicated)(torch.zeros(2))
    apart = options(replicationFactor=2, broadcastBuffers=False)
    executor = poptorch.inferenceModel(Counter(), apart)
    assert executor(torch.zeros(2)).tolist() == [2.0, 2.0]


def test_batch_norm_in_training_mode_updates_the_device_only() -> None:
    model: Any = nn.BatchNorm1d(1, momentum=0.5, affine=False).train()
    executor = poptorch.inferenceModel(model, options(replicationFactor=2))
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0]])  # replicas see means 2 and 6
    executor(x)
    assert model.running_mean.item() == 0.0
    executor.copyWeightsToHost()
    assert model.running_mean.item() == 1.0  # one replica's: 0.5 * 0 + 0.5 * 2
    assert model.num_batches_tracked.item() == 0
