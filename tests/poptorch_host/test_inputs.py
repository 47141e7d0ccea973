"""Inputs of later calls are like those of the first, and get back what forward writes (2.4)."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


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
