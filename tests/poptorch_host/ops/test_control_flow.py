"""Loops and branches: values in, values out, captured once, for inference only (1.6, 2.15)."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
ONE = torch.tensor([1.0])
untyped: Any = poptorch  # for mistakes that mypy would find
Wrap = Callable[..., poptorch.PoplarExecutor]


def test_for_loop_applies_the_body_count_times() -> None:
    x, y = ONE, torch.tensor([10.0])
    result = poptorch.for_loop(3, lambda a, b: (a * 2, b + a), [x, y])
    assert isinstance(result, list)
    assert [value.item() for value in result] == [8, 10 + 1 + 2 + 4]


def test_no_turns_give_the_inputs_by_value() -> None:
    (result,) = poptorch.for_loop(0, lambda a: a + 1, [ONE])
    assert result is not ONE
    assert result.item() == 1


def test_for_loop_hides_what_its_body_writes_into_its_inputs() -> None:
    x = ONE.clone()
    (result,) = poptorch.for_loop(2, lambda a: a.add_(1), [x])
    assert (x.item(), result.item()) == (1, 3)


class Captures(nn.Module):
    """A loop or branch whose body writes into a tensor from outside."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.seen: Tensor
        self.branch = branch

    def forward(self, x: Tensor) -> Any:
        outer = x * 1

        def body(value: Tensor) -> Tensor:
            self.seen.add_(1)
            outer[0] += 10
            return value + outer

        if self.branch:
            (result,) = poptorch.cond(x.sum() > 0, body, [x], body, [x])
        else:
            (result,) = poptorch.for_loop(3, body, [x])
        return result, outer, self.seen


@pytest.mark.parametrize(("branch", "expected"), [(False, 1 + 3 * 11.0), (True, 1 + 11.0)])
def test_tensors_from_outside_are_captured_by_value(branch: bool, expected: float) -> None:
    # 2.15: each turn starts from the outer values, and they stay.
    model = poptorch.inferenceModel(Captures(branch))
    for _ in range(2):
        result, outer, seen = model(ONE)
        assert (result.item(), outer.item(), seen.item()) == (expected, 1.0, 0.0)


def test_the_body_is_captured_once_and_run_count_times(wrap: Wrap) -> None:
    calls: List[bool] = []

    def body(a: Tensor) -> Tensor:
        calls.append(isinstance(a, torch._subclasses.FakeTensor))
        return torch.tanh(a)

    model = wrap(lambda x: poptorch.for_loop(5, body, [x]))
    model.compile(X)
    assert calls == [True]
    assert host.report(model).operators["aten::tanh"] == 1
    (result,) = model(X)
    assert calls[1:] == [False] * 5
    torch.testing.assert_close(result, X.tanh().tanh().tanh().tanh().tanh())


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X, r"\(Object is not list\)"),
        ((X,), r"\(Object is not list\)"),
        ([X, 3], r"\(Object contained in list at index 1 is not torch\.tensor\)"),
    ],
)
def test_inputs_are_a_list_of_tensors(inputs: Any, words: str) -> None:
    prefix = r"poptorch\.for_loop expects input tensors \(inputs\) to be a list of tensors\. "
    with pytest.raises(ValueError, match=prefix + words):
        poptorch.for_loop(1, lambda a: a, inputs)
    with pytest.raises(ValueError, match=words):
        poptorch.cond(torch.tensor(True), lambda *a: X, inputs, lambda *a: X, [X])
    with pytest.raises(ValueError, match=words):
        poptorch.cond(torch.tensor(True), lambda *a: X, [X], lambda *a: X, inputs)


BODIES: List[Callable[[Tensor], Any]] = [
    lambda a: a[0],
    lambda a: (a, a),
    lambda a: a.int(),
    lambda a: (a, 3),
]


@pytest.mark.parametrize("body", BODIES)
def test_the_body_keeps_number_shapes_and_dtypes(body: Callable[[Tensor], Any], wrap: Wrap) -> None:
    words = r"body's outputs must be \['torch.float32 \(2, 3\)'\], got"
    with pytest.raises(poptorch.Error, match=words):
        poptorch.for_loop(1, body, [X])
    with pytest.raises(poptorch.Error, match=words):
        wrap(lambda x: poptorch.for_loop(2, body, [x])).compile(X)


def test_count_is_a_count() -> None:
    for count in (-1, 1.5, ONE):
        with pytest.raises(poptorch.Error, match="count must be an int from 0"):
            untyped.for_loop(count, lambda a: a, [X])


@pytest.mark.parametrize(("condition", "expected"), [(True, 2.0), (False, -1.0)])
def test_cond_takes_one_branch(condition: bool, expected: float) -> None:
    calls: List[str] = []

    def other(a: Tensor) -> Tensor:
        calls.append("else")
        return -a

    result = poptorch.cond(torch.tensor(condition), lambda a: a * 2, [ONE], other, [ONE])
    assert [value.item() for value in result] == [expected]
    assert calls == ([] if condition else ["else"])


def test_bodies_may_take_nothing(wrap: Wrap) -> None:
    def choose(x: Tensor) -> List[Tensor]:
        return poptorch.cond(x.sum() > 0, lambda: x + 1, [], lambda: (x - 1,), [])

    model = wrap(choose)
    assert model(ONE)[0].item() == 2
    assert model(-ONE)[0].item() == -2


def test_both_branches_are_captured_and_must_agree(wrap: Wrap) -> None:
    def choose(x: Tensor) -> List[Tensor]:
        return poptorch.cond(x.sum() > 0, lambda a: a, [x], lambda a: a[0], [x])

    with pytest.raises(poptorch.Error, match="else_body's outputs must be"):
        wrap(choose).compile(X)


@pytest.mark.parametrize("condition", [True, torch.ones(2, dtype=torch.bool)])
def test_the_condition_is_one_value(condition: Any) -> None:
    with pytest.raises(poptorch.Error, match="the condition must be one bool"):
        poptorch.cond(condition, lambda a: a, [X], lambda a: a, [X])


class Trained(nn.Module):
    """A loss out of a loop or branch."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight * x
        if self.branch:
            (y,) = poptorch.cond(x.sum() > 0, lambda a: a, [y], lambda a: -a, [y])
        else:
            (y,) = poptorch.for_loop(2, lambda a: a * 2, [y])
        return poptorch.identity_loss(y, "sum")


@pytest.mark.parametrize(("branch", "name"), [(False, "for_loop"), (True, "cond")])
def test_both_are_for_inference_only(branch: bool, name: str) -> None:
    words = rf"poptorch\.{name}\(\) is only supported in inference\."
    with pytest.raises(poptorch.Error, match=words):
        poptorch.trainingModel(Trained(branch))(ONE)
    poptorch.inferenceModel(Trained(branch))(ONE)


def test_outside_an_executor_both_are_differentiable() -> None:
    model = Trained(False)
    model(ONE).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 4
