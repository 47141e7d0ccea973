"""Loops and branches inside a model, for inference."""

from __future__ import annotations

from typing import List, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .. import _state
from ..errors import createPoptorchError
from ..tensors import names
from . import by_value
from .by_value import Body


def for_loop(count: int, body: Body, inputs: List[Tensor]) -> List[Tensor]:
    """`inputs = body(*inputs)`, `count` times.

    A capture goes through the body once. On a host a run is a plain loop; whatever the body
    writes in place, to its inputs or to tensors from outside, stays inside.

    Args:
        body: returns as many tensors as it takes, of the same shapes and dtypes.

    Returns:
        a list, always.

    Raises:
        ValueError: `inputs` is no list of tensors.
        poptorch.Error: the body changes number, shapes or dtypes, `count` is no count, or the model
            is trained.
    """
    _check_list("poptorch.for_loop", "inputs", inputs)
    _check_inference("poptorch.for_loop()")
    if not isinstance(count, int) or count < 0:
        raise createPoptorchError(f"poptorch.for_loop: count must be an int from 0, got {count!r}")
    values = list(inputs)
    turns = count if _state.current_capture() is None else min(count, 1)
    for _ in range(turns):
        outputs = by_value.call(body, values)
        _check_same("poptorch.for_loop: the body's outputs", values, outputs)
        values = outputs
    values = values if turns else [value.clone() for value in values]
    names.made("loop", values)
    return values


def cond(
    condition: Tensor,
    then_body: Body,
    then_inps: List[Tensor],
    else_body: Body,
    else_inps: List[Tensor],
) -> List[Tensor]:
    """`then_body(*then_inps)` where the condition holds, else `else_body(*else_inps)`.

    A capture goes through both bodies, a run through one. Whatever they write in place, to their
    inputs or to tensors from outside, stays inside.

    Args:
        condition: one bool.
        then_body, else_body: return the same number of tensors, of the same shapes and dtypes.

    Returns:
        a list, always.

    Raises:
        ValueError: inputs that are no lists of tensors.
        poptorch.Error: the bodies' outputs differ in number, shapes or dtypes, the condition is not
            one value, or the model is trained.
    """
    _check_list("poptorch.cond", "then_inps", then_inps)
    _check_list("poptorch.cond", "else_inps", else_inps)
    _check_inference("poptorch.cond()")
    if not isinstance(condition, Tensor) or condition.numel() != 1:
        got = list(condition.shape) if isinstance(condition, Tensor) else type(condition).__name__
        raise createPoptorchError(f"poptorch.cond: the condition must be one bool, got {got}")
    if isinstance(condition, FakeTensor):
        values = _both(condition, then_body, then_inps, else_body, else_inps)
    elif bool(condition):
        values = by_value.call(then_body, then_inps)
    else:
        values = by_value.call(else_body, else_inps)
    names.made("if", values)
    return values


def _both(
    condition: Tensor,
    then_body: Body,
    then_inps: List[Tensor],
    else_body: Body,
    else_inps: List[Tensor],
) -> List[Tensor]:
    """Outputs of a branch whose condition is not known yet: in a capture, or an export."""
    then_outputs = by_value.call(then_body, then_inps)
    else_outputs = by_value.call(else_body, else_inps)
    _check_same("poptorch.cond: else_body's outputs", then_outputs, else_outputs)
    if _state.current_capture() is not None:
        return then_outputs
    chosen = condition.reshape(())  # both bodies are in the graph that is made
    return [torch.where(chosen, one, other) for one, other in zip(then_outputs, else_outputs)]


def _check_inference(function: str) -> None:
    if _state.losses() is not None:
        raise createPoptorchError(f"{function} is only supported in inference.")


def _check_list(function: str, name: str, inputs: object) -> None:
    if not isinstance(inputs, list):
        raise ValueError(
            f"{function} expects input tensors ({name}) to be a list of tensors."
            " (Object is not list)"
        )
    for index, value in enumerate(inputs):
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{function} expects input tensors ({name}) to be a list of tensors."
                f" (Object contained in list at index {index} is not torch.tensor)"
            )


def _check_same(what: str, expected: Sequence[Tensor], got: Sequence[Tensor]) -> None:
    def describe(tensors: Sequence[Tensor]) -> List[str]:
        return [
            f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else repr(tensor)
            for tensor in tensors
        ]

    if describe(expected) != describe(got):
        raise createPoptorchError(f"{what} must be {describe(expected)}, got {describe(got)}")
