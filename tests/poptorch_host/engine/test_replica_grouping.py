"""Weights may differ between groups of replicas, and are then trained apart (2.14)."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import CommGroupType, VariableRetrievalMode, optim

pytestmark = pytest.mark.usefixtures("one_thread")

ONE, ALL = VariableRetrievalMode.OnePerGroup, VariableRetrievalMode.AllReplicas


class Scale(nn.Module):
    """A factor for each group, inside a module of its own."""

    inner: Any

    def __init__(self, values: List[float]) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.weight = nn.Parameter(torch.tensor(values).reshape(-1, 1))
        self.shared = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        assert self.inner.weight.shape == (1,)  # without the leading dimension
        y = self.inner.weight * x + self.shared
        return (y, poptorch.identity_loss(y, "sum")) if self.training else y


def options(replicas: int) -> poptorch.Options:
    return poptorch.Options().replicationFactor(replicas).outputMode(poptorch.OutputMode.All)


@pytest.mark.parametrize(
    ("kind", "shards", "expected"),
    [
        (CommGroupType.Consecutive, 2, [2.0, 2.0, 3.0, 3.0]),
        (CommGroupType.Orthogonal, 2, [2.0, 3.0, 2.0, 3.0]),
    ],
)
def test_replicas_of_a_group_share_a_value(
    kind: CommGroupType, shards: int, expected: List[float]
) -> None:
    executor = poptorch.inferenceModel(Scale([2.0, 3.0]).eval(), options(4))
    executor.inner.weight.replicaGrouping(kind, shards, ONE)
    assert executor(torch.ones(4)).tolist() == expected


def test_without_grouping_each_replica_has_its_own() -> None:
    model: Any = Scale([2.0, 3.0, 5.0, 7.0]).eval()
    executor = poptorch.inferenceModel(model, options(4))
    executor.inner.weight.replicaGrouping(CommGroupType.NoGrouping, 0, ONE)
    assert executor(torch.ones(8)).tolist() == [2.0, 2.0, 3.0, 3.0, 5.0, 5.0, 7.0, 7.0]
    with torch.no_grad():
        model.inner.weight.mul_(10)
    executor.copyWeightsToDevice()
    assert executor(torch.ones(4 * 2))[::2].tolist() == [20.0, 30.0, 50.0, 70.0]


@pytest.mark.parametrize("through", ["executor", "model"])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "lamb"])
def test_gradients_are_reduced_inside_groups_only(kind: str, through: str) -> None:
    # 4 replicas, 2 micro-batches each: groups see the means of their own four inputs
    model: Any = Scale([1.0, 1.0]).train()
    chosen = options(4)
    chosen.Training.gradientAccumulation(2)
    optimizers: Dict[str, Callable[[Any], Any]] = {
        "sgd": lambda p: optim.SGD(p, lr=1.0),
        "momentum": lambda p: optim.SGD(p, lr=1.0, momentum=0.5),
        "lamb": lambda p: optim.LAMB(p, lr=0.5, eps=0.0, weight_decay=0.0),
    }
    optimizer = optimizers[kind](model.parameters())
    executor = poptorch.trainingModel(model, chosen, optimizer)
    weight = executor.inner.weight if through == "executor" else model.inner.weight
    weight.replicaGrouping(CommGroupType.Consecutive, 2, ONE)
    executor(torch.tensor([1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]))
    # LAMB's first step has the weight's norm, 1, for each group
    expected = [[0.5], [0.5]] if kind == "lamb" else [[1 - 2.5], [1 - 25.0]]
    assert model.inner.weight.tolist() == expected
    if kind != "lamb":
        assert model.shared.item() == -1.0  # the mean over all
    if kind == "momentum":
        state = optimizer.state_dict()["ipu_state"]["Accl1___inner.weight"]
        assert state.tolist() == [[2.5], [25.0]]


def test_every_replica_returns_its_value_if_asked() -> None:
    model: Any = Scale([1.0, 2.0]).train()
    executor = poptorch.trainingModel(model, options(4), torch.optim.SGD(model.parameters(), 1.0))
    model.inner.weight.replicaGrouping(CommGroupType.Orthogonal, 2, ALL)
    executor(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert model.inner.weight.tolist() == [[-1.0], [-1.0], [-1.0], [-1.0]]
    executor.copyWeightsToDevice()  # from an entry per replica
    executor(torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert model.inner.weight.tolist() == [[-2.0], [-1.0], [-2.0], [-1.0]]


def test_a_saved_executable_keeps_its_groups(tmp_path: Path) -> None:
    executor = poptorch.inferenceModel(Saved(), options(2))
    executor.weight.replicaGrouping(CommGroupType.NoGrouping, 1, ONE)
    assert executor(torch.ones(2)).tolist() == [2.0, 3.0]
    executor.save(tmp_path / "grouped")
    assert poptorch.load(tmp_path / "grouped")(torch.ones(2)).tolist() == [2.0, 3.0]


class Saved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0], [3.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def test_scalars_cannot_be_grouped() -> None:
    model = Saved()
    model.weight = nn.Parameter(torch.tensor(1.0))
    executor = poptorch.inferenceModel(model, options(2))
    executor.weight.replicaGrouping(CommGroupType.NoGrouping, 0, ONE)
    words = "Scalars cannot be passed as per-replica weight tensor values"
    with pytest.raises(poptorch.Error, match=words):
        executor(torch.ones(2))


def test_wrong_groups_are_refused() -> None:
    executor = poptorch.inferenceModel(Scale([1.0, 2.0, 3.0]).eval(), options(4))
    weight = executor.inner.weight
    with pytest.raises(ValueError, match=r"must divide replicationFactor\(4\), got 3"):
        weight.replicaGrouping(CommGroupType.Consecutive, 3, ONE)
    with pytest.raises(ValueError, match=r"must be a poptorch\.CommGroupType"):
        weight.replicaGrouping("all", 2, ONE)
    with pytest.raises(ValueError, match=r"must be a poptorch\.VariableRetrievalMode"):
        weight.replicaGrouping(CommGroupType.Consecutive, 2, 0)
    weight.replicaGrouping(CommGroupType.Consecutive, 2, ONE)
    with pytest.raises(poptorch.Error, match=r"number of groups \(2\), got shape \[3, 1\]"):
        executor(torch.ones(4))
    weight.replicaGrouping(CommGroupType.All, 0, ONE)  # one group: as without
    with pytest.raises(AssertionError):
        executor(torch.ones(4))  # forward's own: the weight has all three entries
    done = poptorch.inferenceModel(nn.Linear(1, 1), options(2))
    done(torch.ones(2, 1))
    with pytest.raises(poptorch.Error, match="the model is compiled already"):
        done.weight.replicaGrouping(CommGroupType.NoGrouping, 0, ONE)


def test_clipping_needs_equal_weights() -> None:
    model: Any = Scale([1.0, 2.0]).train()
    optimizer = optim.SGD(model.parameters(), 1.0, max_grad_norm=1.0)
    executor = poptorch.trainingModel(model, options(2), optimizer)
    executor.inner.weight.replicaGrouping(CommGroupType.NoGrouping, 0, ONE)
    with pytest.raises(poptorch.Error, match=r"max_grad_norm.*inner\.weight"):
        executor(torch.ones(2))


# ---- what an executor gives for parameters (1.7) -----------------------------------------------


def test_a_parameter_of_an_inference_executor_is_the_models() -> None:
    model: Any = Scale([1.0, 2.0])
    executor = poptorch.inferenceModel(model, options(2))
    weight: Any = executor.inner.weight
    kinds = isinstance(weight, nn.Parameter), isinstance(executor.inner, nn.Module)
    assert kinds == (True, True)
    assert executor.inner == model.inner
    assert torch.equal(weight, model.inner.weight)
    with torch.no_grad():
        weight.mul_(2)
        executor.shared.copy_(torch.ones(1))
    assert model.inner.weight.tolist() == [[2.0], [4.0]]
    assert model.shared.item() == 1.0
    torch.autograd.backward((weight * 3).sum())
    assert model.inner.weight.grad is not None
    assert weight.grad.tolist() == model.inner.weight.grad.tolist() == [[3.0], [3.0]]
    weight.requires_grad_(False)
    assert not model.inner.weight.requires_grad
    executor.inner.extra = 3
    assert model.inner.extra == 3
    for one in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
        assert type(one) is nn.Parameter
    assert repr(weight) == repr(model.inner.weight)
