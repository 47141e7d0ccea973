"""Slices that begin where a tensor says, by hand and inside an executor (1.6)."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch

ROW = torch.arange(8.0).view(1, 8)
untyped: Any = poptorch  # for mistakes that mypy would find


def at(start: int) -> Tensor:
    return torch.tensor([start])


@pytest.mark.parametrize(
    ("start", "size", "step", "expected"),
    [
        (2, 4, 1, [2, 3, 4, 5]),
        (2, 4, 2, [2, 4]),
        (0, 8, 3, [0, 3, 6]),
        (6, 4, 1, [6, 7, 0, 1]),  # beyond the end it goes on at the beginning
        (9, 2, 1, [1, 2]),
    ],
)
def test_a_slice_has_size_elements_from_start(
    start: int, size: int, step: int, expected: object
) -> None:
    assert poptorch.dynamic_slice(ROW, 1, at(start), size, step).tolist() == [expected]
    assert poptorch.dynamic_slice(ROW, -1, at(start), size, step).tolist() == [expected]


@pytest.mark.parametrize(
    ("start", "expected"), [(2, [0, 1, -1, -2, 4, 5, 6, 7]), (7, [-2, 1, 2, 3, 4, 5, 6, -1])]
)
def test_an_update_writes_into_a_copy(start: int, expected: object) -> None:
    row = ROW.clone()
    source = torch.tensor([[-1.0, -2.0]])
    assert poptorch.dynamic_update(row, source, 1, at(start), 2).tolist() == [expected]
    torch.testing.assert_close(row, ROW, rtol=0, atol=0)


def test_an_update_of_rows_undoes_their_slice() -> None:
    x = torch.arange(24.0).view(4, 2, 3)
    rows = poptorch.dynamic_slice(x, 0, at(1), 2, 1)
    torch.testing.assert_close(poptorch.dynamic_update(x, rows, 0, at(1), 2), x, rtol=0, atol=0)


def test_gradients_reach_what_was_sliced_and_written() -> None:
    x, source = ROW.clone().requires_grad_(), torch.ones(1, 2, requires_grad=True)
    y = poptorch.dynamic_update(x, source, 1, at(2), 2)
    poptorch.dynamic_slice(y, 1, at(1), 4, 1).sum().backward()  # type: ignore[no-untyped-call]  # torch
    assert x.grad is not None
    assert source.grad is not None
    assert x.grad.tolist() == [[0, 1, 0, 0, 1, 0, 0, 0]]
    assert source.grad.tolist() == [[1, 1]]


def test_the_start_may_change_from_call_to_call(wrap: Callable[..., Any]) -> None:
    class Window(torch.nn.Module):
        def forward(self, x: Tensor, start: Tensor) -> Tensor:
            return poptorch.dynamic_slice(x, 1, start, 4, 1)

    model = poptorch.inferenceModel(Window())
    for start in (0, 3, 6):
        expected = poptorch.dynamic_slice(ROW, 1, at(start), 4, 1)
        torch.testing.assert_close(model(ROW, at(start)), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: untyped.dynamic_slice([1], 0, at(0), 1, 1), r"take a torch\.tensor input"),
        (lambda: untyped.dynamic_slice(ROW, 1, 0, 4, 1), r"torch\.tensor start"),
        (lambda: untyped.dynamic_slice(ROW, 1.0, at(0), 4, 1), "Dimension must be an integer"),
        (lambda: untyped.dynamic_slice(ROW, 1, at(0), 4.0, 1), "Size must be an integer"),
        (lambda: untyped.dynamic_slice(ROW, 1, at(0), 4, 1.0), "Step must be an integer"),
        (lambda: untyped.dynamic_slice(ROW, 1, at(0), 4, 0), "step must be at least 1, got 0"),
        (lambda: untyped.dynamic_slice(ROW, 2, at(0), 4, 1), "dimension 2 of a tensor with 2"),
        (lambda: untyped.dynamic_slice(ROW, 1, at(0), 3, 1), "3 does not divide 8"),
        (lambda: untyped.dynamic_slice(ROW, 1, at(0), 0, 1), "must be at least 1, got 0"),
        (lambda: untyped.dynamic_slice(ROW, 1, ROW, 4, 1), "must be one integer"),
        (lambda: untyped.dynamic_update(ROW, ROW[:, :1], 1, at(0), 2), r"src must be \[1, 2\]"),
        (lambda: untyped.dynamic_update(ROW, ROW[0, :2], 1, at(0), 2), "dimensionality"),
        (lambda: untyped.dynamic_update(ROW, ROW[:, :2].int(), 1, at(0), 2), "same dtype"),
        (lambda: untyped.dynamic_update(ROW, 3, 1, at(0), 2), r"torch\.tensor src"),
        (lambda: untyped.dynamic_update(ROW, ROW[:, :3], 1, at(0), 3), "3 does not divide 8"),
    ],
)
def test_misuse_is_a_poptorch_error(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        call()
