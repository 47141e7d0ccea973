"""What PopTorch exports for its own use has something behind it here as well (1.1)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import custom_ops, host

Wrap = Callable[..., poptorch.PoplarExecutor]
untyped: Any = poptorch  # for mistakes that mypy would find


def test_attributes_of_captured_operators_can_be_read(wrap: Wrap) -> None:
    attributes: Dict[str, Any] = {"size": 3, "scale": 0.5, "kinds": ["a", "b"]}

    def forward(x: Tensor) -> List[Tensor]:
        return poptorch.custom_op([x], "Op", "test.internals", 1, [x], attributes=attributes)

    host.register_custom_op("test.internals", "Op", lambda inputs, attributes: list(inputs))
    wrap(forward).compile(torch.ones(1))
    found = poptorch.accessAttributes(custom_ops.attribute_id(attributes))
    assert found == attributes
    assert custom_ops.attribute_id({"size": 3.0}) != custom_ops.attribute_id({"size": 3})
    assert poptorch.accessAttributes('{"a": [1, 2]}') == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("identity", "words"), [(3, "expects the str of an id, got int"), ("attr:0", "no attributes")]
)
def test_other_ids_are_value_errors(identity: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        untyped.accessAttributes(identity)


def test_tensors_are_numbered_while_a_model_is_captured(wrap: Wrap) -> None:
    numbers: List[int] = []

    def forward(x: Tensor) -> Tensor:
        if isinstance(x, torch._subclasses.FakeTensor):
            y = x + 1
            numbers.extend(map(poptorch.getIpuTensorId, (x, y, x)))
        return x + 1

    wrap(forward)(torch.ones(1))
    assert numbers == [1, 2, 1]
    with pytest.raises(poptorch.Error, match="while it is being compiled, got Tensor outside"):
        poptorch.getIpuTensorId(torch.ones(1))


def test_a_saved_file_tells_what_is_beside_its_executable(tmp_path: Path) -> None:
    options = poptorch.Options().deviceIterations(2)
    executor = poptorch.inferenceModel(nn.ReLU(), options)
    executor.compile(torch.ones(4, 1))
    executor.save(tmp_path / "saved")
    metadata = pickle.loads(poptorch.importPoptorchMetadataFromFile(tmp_path / "saved"))
    assert metadata["options"].device_iterations == 2
    assert isinstance(metadata["model"], nn.ReLU)
    (tmp_path / "broken").write_bytes(b"no executable")
    with pytest.raises(poptorch.Error, match="Invalid file"):
        poptorch.importPoptorchMetadataFromFile(tmp_path / "broken")
