"""Anchored tensors hold what the graph computed, by their own output mode (1.3, 1.7, 2.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Mode = poptorch.OutputMode
X = torch.arange(16.0).view(8, 2) / 16


class Net(nn.Module):
    """Two layers and a loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc1 = nn.Linear(2, 3)
        self.fc2 = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.fc2(torch.relu(self.fc1(x)))
        return y, poptorch.identity_loss(y, "sum")


class Scale(nn.Module):
    """One weight, which a step of rate 1 lowers by the sum of x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.weight * x, "sum")


def trainer(model: nn.Module, options: poptorch.Options) -> poptorch.PoplarExecutor:
    return poptorch.trainingModel(model, options, torch.optim.SGD(model.parameters(), lr=1.0))


def test_activations_are_those_of_plain_torch() -> None:
    options = poptorch.Options().deviceIterations(2)
    for name in ("fc1/Add:0", "Relu:0", "fc2/MatMul:0"):
        options.anchorTensor(name[:4], name)
    model = Net()
    executor = poptorch.inferenceModel(model, options)
    executor(X)
    hidden = model.fc1(X)
    torch.testing.assert_close(executor.getAnchoredTensor("fc1/"), hidden)
    torch.testing.assert_close(executor.getAnchoredTensor("Relu"), hidden.relu())
    product = hidden.relu() @ model.fc2.weight.t()
    torch.testing.assert_close(executor.getAnchoredTensor("fc2/"), product)
    executor(X + 1)  # each call has values of its own
    torch.testing.assert_close(executor.getAnchoredTensor("fc1/"), model.fc1(X + 1))


def test_anchoring_changes_no_result() -> None:
    model = Net()
    plain = poptorch.inferenceModel(model)(X)
    anchored = poptorch.inferenceModel(model, poptorch.Options().anchorTensor("a", "Relu:0"))(X)
    for one, other in zip(plain, anchored):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


MODES: List[Tuple[Optional[Any], int, List[int]]] = [
    (None, 1, [0, 1, 2, 3, 4, 5, 6, 7]),  # as the global mode, All
    (Mode.All, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
    (Mode.EveryN, 2, [2, 3, 6, 7]),
    (Mode.Final, 1, [6, 7]),
]


@pytest.mark.parametrize(("mode", "period", "kept"), MODES)
def test_each_anchor_has_its_own_mode(mode: Any, period: int, kept: List[int]) -> None:
    # 2.2: four micro-batches of two rows each.
    options = poptorch.Options().deviceIterations(4).anchorTensor("a", "Tanh:0", mode, period)
    executor = poptorch.inferenceModel(nn.Tanh(), options)
    assert executor(X).shape == (8, 2)
    torch.testing.assert_close(executor.getAnchoredTensor("a"), X.tanh()[kept])


def test_sum_adds_micro_batches_of_each_replica() -> None:
    options = poptorch.Options().deviceIterations(2).replicationFactor(2)
    options.anchorTensor("a", "Tanh:0", Mode.Sum)
    executor = poptorch.inferenceModel(nn.Tanh(), options)
    executor(X)
    y = X.tanh().view(4, 2, 2)
    expected = torch.cat([y[0] + y[2], y[1] + y[3]])
    torch.testing.assert_close(executor.getAnchoredTensor("a"), expected)


def test_the_global_mode_of_training_is_final() -> None:
    options = poptorch.Options()
    options.Training.gradientAccumulation(4)
    options.anchorTensor("last", "Gradient___weight")
    options.anchorTensor("all", "Gradient___weight", Mode.All)
    executor = trainer(Scale(), options)
    executor(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    # Each is of its own micro-batch; the accumulated mean is another tensor.
    assert executor.getAnchoredTensor("last").tolist() == [4.0]
    assert executor.getAnchoredTensor("all").tolist() == [1.0, 2.0, 3.0, 4.0]


def test_updated_weights_are_those_after_each_step() -> None:
    options = poptorch.Options().deviceIterations(3)
    options.anchorTensor("new", "UpdatedVar___weight", Mode.All)
    options.anchorTensor("scale", "finalLossScale")
    model = Scale()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, loss_scaling=4.0)
    executor = poptorch.trainingModel(model, options, optimizer)
    executor(torch.tensor([1.0, 2.0, 3.0]))
    assert executor.getAnchoredTensor("new").tolist() == [-1.0, -3.0, -6.0]
    assert executor.getAnchoredTensor("scale").item() == 4.0
    assert executor.getAnchoredTensor("scale").dtype == torch.float32


def test_gradients_include_the_loss_scale_and_are_zero_without_a_way() -> None:
    class Half(Scale):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2))

    options = poptorch.Options().anchorTensor("g", "Gradient___weight")
    options.anchorTensor("zero", "Gradient___unused")
    model = Half()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, loss_scaling=4.0)
    executor = poptorch.trainingModel(model, options, optimizer)
    executor(torch.tensor([3.0]))
    assert executor.getAnchoredTensor("g").tolist() == [12.0]
    assert executor.getAnchoredTensor("zero").tolist() == [0.0, 0.0]


def test_activations_of_training_are_those_before_the_update() -> None:
    options = poptorch.Options().anchorTensor("a", "fc1/MatMul:0").anchorTensor("b", "fc2.bias")
    model = Net()
    expected = X @ model.fc1.weight.detach().t()
    before = model.fc2.bias.item()
    executor = trainer(model, options)
    executor(X)
    torch.testing.assert_close(executor.getAnchoredTensor("a"), expected)
    torch.testing.assert_close(executor.getAnchoredTensor("b"), torch.tensor([before - 8.0]))


def test_a_network_with_everything_is_anchored_as_it_is_captured() -> None:
    class Everything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.drop = nn.Dropout(0.5)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.normed = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.drop(torch.relu_(self.norm(self.conv(x))))
            z = self.normed(y.flatten(2).transpose(1, 2))
            z, _ = self.attention(z, z, z, need_weights=False)
            (z,) = poptorch.for_loop(2, torch.tanh, [z])
            return poptorch.CPU(torch.neg, "negate")(z) * 3  # type: ignore[no-any-return]

    first = poptorch.inferenceModel(Everything().eval())
    first.compile(torch.rand(1, 1, 4, 4))
    computed = [name for name in first.getTensorNames() if ":" in name]
    wanted = [n for n in computed if n.rpartition("/")[2].split(":")[0] in ("Conv", "Relu", "Mul")]
    wanted += ["norm/BatchNormalization:0", "normed/GroupNormalization:0", "CallCpuOp:0"]
    options = poptorch.Options()
    for name in wanted:
        options.anchorTensor(name, name)
    executor = poptorch.inferenceModel(first.model, options)
    result = executor(torch.rand(1, 1, 4, 4))
    torch.testing.assert_close(executor.getAnchoredTensor("Mul:0"), result)
    torch.testing.assert_close(executor.getAnchoredTensor("CallCpuOp:0") * 3, result)


def test_half_models_have_half_anchors() -> None:
    options = poptorch.Options().anchorTensor("a", "fc1/Add:0")
    model = Net().half()
    executor = poptorch.inferenceModel(model, options)
    executor(X.half())
    value = executor.getAnchoredTensor("a")
    assert value.dtype == torch.float16
    torch.testing.assert_close(value.float(), model.float().fc1(X), rtol=1e-2, atol=1e-2)


def test_synthetic_data_gives_zeros_of_the_right_shape() -> None:
    options = poptorch.Options().deviceIterations(2).enableSyntheticData(True)
    executor = poptorch.inferenceModel(Net(), options.anchorTensor("a", "fc1/Add:0"))
    executor(X)
    torch.testing.assert_close(executor.getAnchoredTensor("a"), torch.zeros(8, 3))


def test_values_exist_after_a_call_and_by_their_short_name() -> None:
    options = poptorch.Options().anchorTensor("a", "fc1/Add:0")
    executor = poptorch.inferenceModel(Net(), options)
    executor.compile(X)
    with pytest.raises(AssertionError, match=r"No tensor with name a found\."):
        executor.getAnchoredTensor("a")
    executor(X)
    assert executor.getAnchoredTensor("a").shape == (8, 3)
    with pytest.raises(AssertionError, match=r"No tensor with name fc1/Add:0 found\."):
        executor.getAnchoredTensor("fc1/Add:0")


def test_an_unknown_tensor_is_refused_at_compile_with_names_like_it() -> None:
    options = poptorch.Options().anchorTensor("a", "Gradient___fc2.bia")
    model = Net()
    with pytest.raises(poptorch.Error, match=r"no tensor of the graph.*Gradient___fc2\.bias"):
        trainer(model, options).compile(X)
    with pytest.raises(poptorch.Error, match=r"getTensorNames"):
        poptorch.inferenceModel(Net(), options.clone()).compile(X)


def test_executables_from_files_are_anchored_as_well(tmp_path: Path) -> None:
    def options(name: str) -> poptorch.Options:
        cached = poptorch.Options().enableExecutableCaching(str(tmp_path))
        return cached.anchorTensor("a", name)

    model = Net()
    for name in ("fc1/Add:0", "fc1/Add:0", "Relu:0"):
        executor = poptorch.inferenceModel(model, options(name))
        executor(X)
        expected = model.fc1(X) if name.startswith("fc1") else model.fc1(X).relu()
        torch.testing.assert_close(executor.getAnchoredTensor("a"), expected)
    executor.save(tmp_path / "saved")
    again = poptorch.inferenceModel(model, options("Relu:0"))
    again.loadExecutable(tmp_path / "saved")
    again(X)
    torch.testing.assert_close(again.getAnchoredTensor("a"), expected)
    assert "Relu:0" in again.getTensorNames()


def test_the_compiling_engine_has_no_anchors(configure: Callable[..., object]) -> None:
    configure(engine="compile")
    options = poptorch.Options().anchorTensor("a", "fc1/Add:0")
    with pytest.raises(poptorch.Error, match="engine='eager'"):
        poptorch.inferenceModel(Net(), options).compile(X)


def test_without_anchors_no_run_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from poptorch_host.engine import anchors

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("watched")

    monkeypatch.setattr(anchors, "Anchors", fail)
    monkeypatch.setattr(anchors, "_Watch", fail)
    poptorch.inferenceModel(Net())(X)
    trainer(Net(), poptorch.Options())(X)


def test_replicas_with_weights_of_their_own_anchor_their_own() -> None:
    # 2.14
    class Grouped(nn.Module):
        inner: Any

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Module()
            self.inner.weight = nn.Parameter(torch.tensor([[1.0], [2.0]]))

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.inner.weight * x, "sum")

    options = poptorch.Options().replicationFactor(2).outputMode(Mode.All)
    options.anchorTensor("gradient", "Gradient___inner.weight")
    options.anchorTensor("new", "UpdatedVar___inner.weight", Mode.Final)
    executor = trainer(Grouped(), options)
    group = poptorch.CommGroupType.NoGrouping
    executor.inner.weight.replicaGrouping(group, 0, poptorch.VariableRetrievalMode.OnePerGroup)
    executor(torch.tensor([10.0, 20.0]))
    assert executor.getAnchoredTensor("gradient").tolist() == [10.0, 20.0]
    assert executor.getAnchoredTensor("new").tolist() == [1.0 - 10.0, 2.0 - 20.0]


def test_an_update_reaches_the_anchors_of_all_replicas() -> None:
    options = poptorch.Options().deviceIterations(2).replicationFactor(2)
    options.anchorTensor("all", "UpdatedVar___weight", Mode.All)
    options.anchorTensor("last", "weight", Mode.Final)
    executor = trainer(Scale(), options)
    executor(torch.tensor([1.0, 3.0, 5.0, 5.0]))
    assert executor.getAnchoredTensor("all").tolist() == [-2.0, -2.0, -7.0, -7.0]
    assert executor.getAnchoredTensor("last").tolist() == [-7.0, -7.0]
