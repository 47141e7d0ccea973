"""Tensors of a graph have PopART's names: modules, operator, number of the result (1.7)."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


class Net(nn.Module):
    """Two layers and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 3)
        self.fc2 = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.fc2(torch.relu(self.fc1(x)))
        return y, poptorch.identity_loss(y, "sum")


def names_of(
    model: nn.Module, *inputs: Tensor, options: Optional[poptorch.Options] = None
) -> List[str]:
    executor = poptorch.inferenceModel(model, options)
    executor.compile(*inputs)
    weights = [*dict(model.named_parameters()), *dict(model.named_buffers())]
    return [name for name in executor.getTensorNames() if name not in weights]


def test_names_need_a_compiled_model() -> None:
    words = "Model must be compiled before calling getTensorNames"
    with pytest.raises(AssertionError, match=words):
        poptorch.inferenceModel(Net()).getTensorNames()


def test_a_name_is_the_modules_and_the_operator() -> None:
    model = nn.Sequential()
    model.add_module("trunk", nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()))
    model.add_module("pool", nn.MaxPool2d(2))
    names = names_of(model.eval(), torch.ones(1, 1, 6, 6))
    expected = ["trunk/0/Conv:0", "trunk/1/BatchNormalization:0", "trunk/2/Relu:0"]
    assert [name for name in expected if name not in names] == []
    assert "pool/MaxPool:0" in names


def test_a_linear_layer_multiplies_then_adds() -> None:
    names = names_of(Net(), torch.ones(4, 2))
    wanted = ["fc1/MatMul:0", "fc1/Add:0", "Relu:0", "fc2/MatMul:0", "fc2/Add:0"]
    assert [name for name in names if name in wanted] == wanted


def test_equal_names_are_counted(wrap: Wrap) -> None:
    executor = wrap(lambda x: torch.tanh(torch.tanh(x) + 1) + 2)
    executor.compile(torch.ones(1))
    assert executor.getTensorNames() == ["Tanh:0", "Add:0", "Tanh:0/1", "Add:0/1"]


def test_in_place_operators_are_named_as_others(wrap: Wrap) -> None:
    executor = wrap(lambda x: (x + 1).relu_().mul_(2))
    executor.compile(torch.ones(1))
    assert executor.getTensorNames() == ["Add:0", "Relu:0", "Mul:0"]


def test_name_scopes_prefix_and_module_scopes_can_be_left_out() -> None:
    class Scoped(Net):
        def forward(self, x: Tensor) -> Any:
            with poptorch.NameScope("head"), poptorch.Attribute(__outline={"a": "b"}):
                return torch.relu(self.fc1(x))

    assert "head/fc1/Add:0" in names_of(Scoped(), torch.ones(4, 2))
    plain = poptorch.Options().disableModuleNamescope()
    assert "head/Add:0" in names_of(Scoped(), torch.ones(4, 2), options=plain)
    with pytest.raises(AssertionError, match="must be a string"):
        poptorch.NameScope(3)  # type: ignore[arg-type]  # the mistake


def test_bodies_of_loops_have_no_names_around_them(wrap: Wrap) -> None:
    executor = wrap(lambda x: poptorch.for_loop(2, torch.tanh, [x + 1])[0] + 2)
    executor.compile(torch.ones(1))
    assert executor.getTensorNames() == ["Add:0", "Loop:0", "Add:0/1"]


def test_operators_of_poptorch_s_own_have_names(wrap: Wrap) -> None:
    executor = wrap(lambda x: poptorch.CPU(torch.tanh, "t")(x))
    executor.compile(torch.ones(1))
    assert "CallCpuOp:0" in executor.getTensorNames()


def test_training_names_gradients_and_updates() -> None:
    model = Net()
    model.fc1.requires_grad_(False)
    executor = poptorch.trainingModel(model)
    executor.compile(torch.ones(4, 2))
    names = executor.getTensorNames()
    for layer in ("weight", "bias"):
        assert f"fc1.{layer}" in names
        assert f"Gradient___fc1.{layer}" not in names
        for prefix in ("", "Gradient___", "UpdatedVar___"):
            assert f"{prefix}fc2.{layer}" in names
    assert "finalLossScale" in names


def test_functional_operators_are_of_the_module_that_calls() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x) * F.softmax(x, -1)

    names = names_of(nn.Sequential(Block()), torch.ones(1, 2))
    assert names == ["0/Swish:0", "0/Softmax:0", "0/Mul:0"]
