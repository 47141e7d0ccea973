"""`CPU` calls its layer for real, for each micro-batch of a captured model (1.6, 2.15)."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


class OnHost(nn.Module):
    """A layer on the device around one on the host."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.readout = poptorch.CPU(function, "middle")

    def forward(self, *inputs: Tensor) -> Any:
        first, *others = inputs
        return self.readout(self.linear(first), *others)


def test_outside_an_executor_it_is_a_call() -> None:
    layer = nn.Linear(3, 1)
    on_host = poptorch.CPU(layer, "readout")
    assert not layer.weight.requires_grad
    torch.testing.assert_close(on_host(X), layer(X))


def test_numpy_may_compute_it() -> None:
    def sort(x: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(x.numpy(), axis=1)[:, ::-1].copy())

    model = OnHost(sort)
    result = poptorch.inferenceModel(model)(X)
    torch.testing.assert_close(result, model.linear(X).sort(dim=1, descending=True).values)


def test_it_is_called_with_zeros_at_compile_and_once_per_micro_batch() -> None:
    seen: List[Tuple[Any, ...]] = []

    def double(x: Tensor) -> Tensor:
        seen.append((type(x), x.dtype, x.device.type, tuple(x.shape), float(x.abs().sum()) == 0))
        return x * 2

    model = OnHost(double)
    executor = poptorch.inferenceModel(model, poptorch.Options().deviceIterations(2))
    executor.compile(X)
    assert seen == [(Tensor, torch.float32, "cpu", (1, 3), True)]
    for turn in (1, 2):
        torch.testing.assert_close(executor(X), model.linear(X) * 2)
        assert seen[1:] == [(Tensor, torch.float32, "cpu", (1, 3), False)] * (2 * turn)


def test_buffers_are_float32_whatever_goes_in() -> None:
    kinds: List[torch.dtype] = []

    def add(x: Tensor, index: Tensor) -> Tensor:
        kinds.extend([x.dtype, index.dtype])
        return (x + index).half()

    result = poptorch.inferenceModel(OnHost(add))(X, torch.tensor([[1], [2]]))
    assert set(kinds) == {torch.float32}
    assert result.dtype == torch.float32


def test_several_results_are_a_list_and_one_is_itself() -> None:
    pair = poptorch.inferenceModel(OnHost(lambda x: (x + 1, x[:, :2])))(X)
    assert isinstance(pair, list)
    assert [tuple(one.shape) for one in pair] == [(2, 3), (2, 2)]
    assert isinstance(poptorch.CPU(lambda x: (x, x), "pair")(X), list)


def test_one_layer_may_be_called_several_times_with_other_shapes() -> None:
    cpu = poptorch.CPU(lambda x: x * 2, "double")

    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return cpu(cpu(x)[:, :2]) + 1  # type: ignore[no-any-return]

    executor = poptorch.inferenceModel(Chain())
    torch.testing.assert_close(executor(X), X[:, :2] * 4 + 1)
    assert host.report(executor).operators["poptorch::call_cpu_op"] == 2


def test_a_module_of_the_host_keeps_its_own_weights() -> None:
    readout = nn.Linear(3, 1)
    executor = poptorch.inferenceModel(OnHost(readout))
    executor.compile(X)
    with torch.no_grad():
        readout.bias.add_(1.0)  # reaches the host's layer, no device has it
    expected = readout(executor.model.linear(X))  # type: ignore[operator]
    torch.testing.assert_close(executor(X), expected)


def test_random_numbers_and_modes_of_the_executor_stay_outside() -> None:
    modes: List[bool] = []

    def count(x: Tensor) -> Tensor:
        modes.append(torch.is_inference_mode_enabled() or torch.is_grad_enabled())
        return x[x > -1e9].reshape(x.shape)  # data dependent: refused on the device

    poptorch.inferenceModel(OnHost(count))(X)
    assert modes == [False, False]


def test_an_error_in_the_layer_comes_through() -> None:
    def fail(x: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        poptorch.inferenceModel(OnHost(fail)).compile(X)


def test_shapes_are_those_of_compile() -> None:
    executor = poptorch.inferenceModel(OnHost(lambda x: x if x.abs().sum() == 0 else x[:1]))
    with pytest.raises(poptorch.Error, match=r"'middle'.*shapes must not depend on values"):
        executor(X)


def test_it_takes_tensors_by_position_and_gives_tensors() -> None:
    class Keyword(OnHost):
        def forward(self, *inputs: Tensor) -> Any:
            return self.readout(x=inputs[0])

    with pytest.raises(poptorch.Error, match="takes tensors, by position"):
        poptorch.inferenceModel(Keyword(torch.neg)).compile(X)
    with pytest.raises(poptorch.Error, match="must return tensors, got"):
        poptorch.inferenceModel(OnHost(lambda x: 3)).compile(X)


def test_it_is_for_inference_only() -> None:
    class Trained(OnHost):
        def forward(self, *inputs: Tensor) -> Any:
            return poptorch.identity_loss(super().forward(*inputs), "sum")

    with pytest.raises(poptorch.Error, match=r"'middle'.*only supported in inference"):
        poptorch.trainingModel(Trained(torch.neg))(X)
