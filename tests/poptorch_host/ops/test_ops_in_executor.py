"""PopTorch's own operators pass a capture and compute the same inside an executor."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

X = torch.arange(16.0).view(4, 4) / 16


class Calls(nn.Module):
    """A model of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any) -> Any:
        return self._function(*args)


def hinted(x: Tensor) -> Tensor:
    with poptorch.NameScope("a"), poptorch.Attribute(__outline={"a": "b"}):
        return poptorch.nop(poptorch.set_available_memory(x @ x.t(), 0.5))


FUNCTIONS: Dict[str, Callable[[Tensor], Any]] = {
    "identity_loss": lambda x: poptorch.identity_loss(x, "mean"),
    "recomputationCheckpoint": lambda x: poptorch.recomputationCheckpoint(x + 1, x + 2),
    "serializedMatMul": lambda x: poptorch.serializedMatMul(
        x, x.t(), poptorch.MatMulSerializationMode.ReducingDim, 2
    ),
    "hinted": hinted,
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_inside_an_executor_the_result_is_the_same(name: str) -> None:
    function = FUNCTIONS[name]
    result = poptorch.inferenceModel(Calls(function))(X)
    torch.testing.assert_close(result, function(X))


def test_custom_op_runs_the_registered_function_on_each_micro_batch() -> None:
    shapes: List[torch.Size] = []

    def cube(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
        shapes.append(inputs[0].shape)
        return [inputs[0] ** attributes["power"]]

    def forward(x: Tensor) -> Tensor:
        (y,) = poptorch.custom_op(
            [x], "Cube", "test.executor", 1, example_outputs=[x], attributes={"power": 3}
        )
        return y

    host.register_custom_op("test.executor", "Cube", cube)
    model = poptorch.inferenceModel(Calls(forward), poptorch.Options().deviceIterations(2))
    torch.testing.assert_close(model(X), X**3)
    assert shapes == [torch.Size([2, 4])] * 2


def test_unregistered_custom_op_is_refused_at_compile() -> None:
    model = poptorch.inferenceModel(
        Calls(lambda x: poptorch.custom_op([x], "Root", "test.executor", 1, [x]))
    )
    with pytest.raises(poptorch.Error, match=r"Unable to find op test\.executor\.Root:1"):
        model.compile(X)


def test_loader_and_executor_agree_on_the_batch() -> None:
    options = poptorch.Options().deviceIterations(3)
    data = torch.utils.data.TensorDataset(torch.arange(12.0).view(12, 1))
    loader = poptorch.DataLoader(options, data, batch_size=2)
    model = poptorch.inferenceModel(Calls(lambda x: x + 1), options)
    results = [model(*batch) for batch in loader]
    torch.testing.assert_close(torch.cat(results), torch.arange(1.0, 13.0).view(12, 1))


def test_compile_lists_settings_without_effect_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="poptorch::python")
    options = poptorch.Options().setAvailableMemoryProportion({"IPU0": 0.2})
    model = poptorch.inferenceModel(Calls(lambda x: x + 1), options)
    for _ in range(2):
        model(X)
    words = "ignored: setAvailableMemoryProportion (a host has one memory)"
    assert caplog.text.count(words) == 1
