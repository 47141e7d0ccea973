"""Custom operators: attributes as PopART takes them, shapes from examples, the host's table."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch
from poptorch_host import _state, custom_ops

X = torch.tensor([[1.0, 2.0]])


class Counted:
    """A capture that only counts operators."""

    def __init__(self) -> None:
        self.names: List[str] = []

    def record(self, name: str) -> None:
        self.names.append(name)

    def begin_block(self, user_id: Any, ipu_id: Any) -> None: ...

    def end_block(self) -> None: ...

    def use_auto_id(self) -> None: ...


@pytest.fixture(autouse=True)
def cube(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test.Cube:1`, whose attribute `power` is the exponent, in a table of its own."""
    monkeypatch.setattr(custom_ops, "_table", {})

    def compute(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
        return [inputs[0] ** attributes.get("power", 3)]

    custom_ops.register("test", "Cube", compute, version=1)


def call(**changes: Any) -> List[Tensor]:
    arguments: Dict[str, Any] = {
        "inputs": [X],
        "name": "Cube",
        "domain": "test",
        "domain_version": 1,
        "example_outputs": [X],
    }
    arguments.update(changes)
    return poptorch.custom_op(**arguments)


def test_outside_an_executor_results_are_zeros() -> None:
    # 1.6, and a list even for one output (7.1)
    assert [output.tolist() for output in call(example_outputs=[X, X[0]])] == [[[0, 0]], [0, 0]]
    assert call(name="Unknown")[0].tolist() == [[0, 0]]


def test_inside_an_executor_the_registered_function_computes() -> None:
    with _state.running():
        (result,) = call(attributes={"power": 2})
    assert result.tolist() == [[1, 4]]


def test_a_capture_takes_shapes_from_examples_and_counts_the_operator() -> None:
    counted: Any = Counted()
    with _state.running(counted):
        boxes, kept = call(example_outputs=[torch.zeros(3, 4), torch.zeros(3, dtype=torch.int32)])
    assert (boxes.shape, boxes.dtype) == ((3, 4), torch.float32)
    assert (kept.shape, kept.dtype) == ((3,), torch.int32)
    assert counted.names == ["test::Cube"]


def test_an_unregistered_operator_is_named() -> None:
    for changes in ({"name": "Root"}, {"domain": "other"}, {"domain_version": 2}):
        identity = {"name": "Cube", "domain": "test", "domain_version": 1, **changes}
        words = (
            f"Unable to find op {identity['domain']}.{identity['name']}:"
            f"{identity['domain_version']}.*register_custom_op"
        )
        with _state.running(), pytest.raises(poptorch.Error, match=words):
            call(**changes)


def test_results_must_be_like_the_examples() -> None:
    with _state.running(), pytest.raises(poptorch.Error, match=r"test\.Cube:1 returned .*\(1, 2\)"):
        call(example_outputs=[X[0]])
    with _state.running(), pytest.raises(poptorch.Error, match="example_outputs say"):
        call(example_outputs=[X, X])


def test_examples_of_wide_integers_accept_narrow_results() -> None:
    # 2.2: int64 is int32 on the device.
    custom_ops.register("test", "Count", lambda inputs, _: [torch.ones(1, dtype=torch.int32)])
    with _state.running():
        (count,) = call(name="Count", example_outputs=[torch.zeros(1, dtype=torch.int64)])
    assert count.item() == 1


@pytest.mark.parametrize(
    "attributes",
    [{}, {"i": 1, "f": 0.5, "s": "text"}, {"ints": [1, 2], "floats": (0.1, 0.2), "s": ["a", "b"]}],
)
def test_attributes_of_the_three_kinds_pass(attributes: Dict[str, Any]) -> None:
    call(attributes=attributes)


@pytest.mark.parametrize(
    ("attributes", "kind", "words"),
    [
        ({1: 2}, ValueError, r"All attribute keys must be strings\."),
        ({"a": None}, ValueError, "NoneType of a"),
        ({"a": {}}, ValueError, "dict of a"),
        ({"a": [1, 2.0]}, ValueError, "one type"),
        ({"a": [[1]]}, ValueError, "list of a"),
        ({"a": []}, ValueError, "empty list"),
        ({"größe": 1}, ValueError, r"größe contains non-ASCII characters\."),
        ({"a": ["x", "größe"]}, ValueError, r"größe contains non-ASCII characters\."),
        ({"a": torch.ones(1)}, ValueError, "Invalid attribute type Tensor of a"),
        ({"a": (1, "1")}, ValueError, "one type"),
        ({"a": [0.5, 1e39]}, poptorch.Error, r"1e\+39 is too high"),
        ({"a": "größe"}, ValueError, r"größe contains non-ASCII characters\."),
        ({"a": 1e39}, poptorch.Error, r"1e\+39 is too high for a Popart float attribute\."),
        ({"a": -1e39}, poptorch.Error, r"-1e\+39 is too low for a Popart float attribute\."),
    ],
)
def test_other_attributes_are_refused_everywhere(
    attributes: Dict[Any, Any], kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        call(attributes=attributes)
