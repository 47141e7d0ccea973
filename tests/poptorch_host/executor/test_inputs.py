"""Inputs of later calls are like those of the first, and get back what forward writes (2.4)."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]
X = torch.ones(2)


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.4: arguments ----------------------------------------------------------------------------


class Takes(nn.Module):
    def forward(
        self,
        x: Tensor,
        pair: Tuple[Tensor, Tensor],
        scale: float = 1.0,
        *rest: Tensor,
        extra: Optional[Dict[str, Tensor]] = None,
    ) -> Tensor:
        total = x + pair[0] * pair[1] * scale + sum(rest)
        return total if extra is None else total + extra["a"]


def test_arguments_of_every_kind_reach_forward() -> None:
    x = torch.ones(4)
    arguments = (x, (x, 2 * x), 3.0, x, x)
    executor = poptorch.inferenceModel(Takes(), options(deviceIterations=2))
    result = executor(*arguments, extra={"a": x})
    assert result.tolist() == Takes()(*arguments, extra={"a": x}).tolist() == [10.0] * 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((torch.ones(4), (torch.ones(4), torch.ones(4)), 2.0), "Value mismatch for scale"),
        ((torch.ones(8), (torch.ones(8), torch.ones(8)), 1.0), "Shape mismatch for x"),
        ((torch.ones(4), (torch.ones(4),), 1.0), "Length mismatch for pair"),
        ((torch.ones(4), (torch.ones(4).int(), torch.ones(4)), 1.0), r"Data type mismatch for pa"),
        ((torch.ones(4), [torch.ones(4), torch.ones(4)], 1.0), "Type mismatch for pair"),
    ],
)
def test_later_calls_must_be_like_the_first(arguments: Tuple[Any, ...], text: str) -> None:
    executor = poptorch.inferenceModel(Takes())
    executor(torch.ones(4), (torch.ones(4), torch.ones(4)))
    with pytest.raises(poptorch.Error, match=text):
        executor(*arguments)


def test_keywords_and_dict_entries_may_come_in_another_order() -> None:
    class Named(nn.Module):
        def forward(self, table: Dict[str, Tensor], **more: Tensor) -> Tensor:
            return 1000 * table["a"] + 100 * table["b"] + 10 * more["c"] + more["d"]

    one, two, three, four = (torch.tensor([float(value)]) for value in (1, 2, 3, 4))
    executor = poptorch.inferenceModel(Named())
    assert executor({"a": one, "b": two}, c=three, d=four).tolist() == [1234.0]
    assert executor({"b": two, "a": one}, d=four, c=three).tolist() == [1234.0]


@pytest.mark.parametrize("change", ["unsqueeze_", "requires_grad_", "t_"])
def test_shape_and_flags_of_the_callers_tensor_stay(wrap: Wrap, change: str) -> None:
    # 2.4: values that forward writes go back, nothing else does
    def forward(x: Tensor) -> Tensor:
        x.mul_(2)
        arguments = [0] if change == "unsqueeze_" else []
        result: Tensor = getattr(x, change)(*arguments)
        return result + 1

    x = torch.tensor([[1.0, 2.0]])
    assert wrap(forward)(x).flatten().tolist() == [3.0, 5.0]
    assert x.tolist() == [[2.0, 4.0]]
    assert not x.requires_grad


def test_an_input_that_forward_changes_is_written_back(wrap: Wrap) -> None:
    def change(x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2

    x = torch.zeros(4)
    result = wrap(change, options(deviceIterations=2))(x)
    assert x.tolist() == [1.0] * 4
    assert result.tolist() == [2.0] * 4


def test_a_strided_input_that_forward_changes_is_written_back(wrap: Wrap) -> None:
    storage = torch.zeros(2, 4)
    wrap(lambda x: x.add_(1).sum())(storage.t())
    assert storage.tolist() == [[1.0] * 4] * 2


def test_replicas_of_a_group_see_the_input_before_it_is_changed(wrap: Wrap) -> None:
    # 2.1, 2.4: the write-back of one once reached the other
    chosen = options(replicationFactor=2)
    chosen.inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive)
    x = torch.zeros(2)
    assert wrap(lambda x: x.add_(1) * 1, chosen)(x).tolist() == [1.0] * 4
    assert x.tolist() == [1.0, 1.0]


def test_blocks_of_nested_and_narrowed_inputs_are_written_back() -> None:
    class Changes(nn.Module):
        def forward(self, pair: Any, count: Tensor) -> Tensor:
            pair[1][0].mul_(2)
            count += 1
            result: Tensor = pair[1][0] + count
            return result

    x, y, count = torch.ones(2), torch.arange(2.0), torch.zeros(2, dtype=torch.int64)
    executor = poptorch.inferenceModel(Changes(), options(deviceIterations=2))
    assert executor((x, [y]), count).tolist() == [1.0, 3.0]
    assert y.tolist() == [0.0, 2.0]
    assert count.tolist() == [1, 1]
    assert x.tolist() == [1.0, 1.0]


def test_an_input_that_requires_a_gradient_is_detached_and_still_written_back(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.zeros(2, requires_grad=True)
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result = wrap(lambda x: (x.add_(1), x * 2)[1])(x)
    assert "requires_grad" in caplog.text
    assert not result.requires_grad
    assert x.tolist() == [1.0, 1.0]
    assert x.grad_fn is None


def test_training_changes_inputs_in_every_block() -> None:
    class Changes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            x.add_(1)
            return poptorch.identity_loss(self.weight * x, "mean")

    model = Changes()
    chosen = options(replicationFactor=2)
    chosen.Training.gradientAccumulation(2)
    x = torch.arange(4.0)
    poptorch.trainingModel(model, chosen, torch.optim.SGD(model.parameters(), 1.0))(x)
    assert x.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert model.weight.item() == 1 - 2.5


class Everything(nn.Module):
    def forward(self, x: Tensor, table: Any, *more: Any, flag: Any = None, **rest: Any) -> Tensor:
        return x * 1


MISMATCHES = [
    # a later call's arguments, and what is said of them
    ((X, {"a": X}, X, X), {}, r"Number of positional arguments mismatch: expected 3 .*got 4\."),
    ((X, {"b": X}, X), {}, r"Keys mismatch for table: Unexpected arguments: b\. Missing .*: a\."),
    ((X, {"a": 3}, X), {}, r"Type mismatch for table\[a\]: expected .*Tensor'> but got .*int'>"),
    ((X, {"a": X.int()}, X), {}, r"Data type mismatch for table\[a\]: expected torch\.float32"),
    ((X, {"a": X}, X[:1]), {}, r"Shape mismatch for more\[0\]: expected torch\.Size\(\[2\]\) but"),
    ((X, {"a": X}, X), {"flag": 5}, r"Type mismatch for flag: expected .*NoneType'> but got"),
    ((X, {"a": X}, X), {"other": 1}, r"Keys mismatch for kwargs: Unexpected arguments: other"),
    ((X, None, X), {}, r"Type mismatch for table: expected .*dict'> but got .*NoneType'>"),
]


@pytest.mark.parametrize(("arguments", "named", "words"), MISMATCHES)
def test_a_difference_is_named_and_a_way_out_is_given(
    arguments: Tuple[Any, ...], named: Dict[str, Any], words: str
) -> None:
    executor = poptorch.inferenceModel(Everything())
    executor(X, {"a": X}, X)
    with pytest.raises(poptorch.Error, match=words) as raised:
        executor(*arguments, **named)
    assert "destroy()" in str(raised.value)
    assert executor(X, {"a": X}, X).tolist() == [1.0, 1.0]  # the refusal changed nothing


@pytest.mark.parametrize("value", [3, 2.5, "text", True, None])
def test_values_that_are_no_tensors_are_baked_in(value: Any) -> None:
    executor = poptorch.inferenceModel(Everything())
    executor(X, value, flag=value)
    executor(X, value, flag=value)
    other = {3: 5, 2.5: 3.5, "text": "other", True: False, None: 1}[value]
    kind = "Type" if value is None else "Value"
    with pytest.raises(poptorch.Error, match=f"{kind} mismatch for table: expected"):
        executor(X, other, flag=value)
