"""Loops, branches and host calls inside a model, for inference."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Union

import torch
from torch import Tensor, nn

from . import _state
from .checks import createPoptorchError

Body = Callable[..., Union[Tensor, Sequence[Tensor]]]


def for_loop(count: int, body: Body, inputs: List[Tensor]) -> List[Tensor]:
    """`inputs = body(*inputs)`, `count` times.

    On a host a plain loop: the body is called `count` times, on copies, so that what it writes in
    place stays inside.

    Args:
        body: returns as many tensors as it takes, of the same shapes and dtypes.

    Returns:
        a list, always.

    Raises:
        ValueError: `inputs` is no list of tensors.
        poptorch.Error: the body changes number, shapes or dtypes, or the model is trained.
    """
    _check_list("poptorch.for_loop", "inputs", inputs)
    _check_inference("poptorch.for_loop()")
    values = list(inputs)
    for _ in range(count):
        outputs = _as_list(body(*[value.clone() for value in values]))
        _check_same("poptorch.for_loop: the body's outputs", values, outputs)
        values = outputs
    return values


def cond(
    condition: Tensor,
    then_body: Body,
    then_inps: List[Tensor],
    else_body: Body,
    else_inps: List[Tensor],
) -> List[Tensor]:
    """`then_body(*then_inps)` where the condition holds, else `else_body(*else_inps)`.

    A capture goes through both bodies, a run through one.

    Args:
        condition: one bool.
        then_body, else_body: return the same number of tensors, of the same shapes and dtypes.

    Returns:
        a list, always.

    Raises:
        poptorch.Error: the bodies' outputs differ in number, shapes or dtypes, or the model is
            trained.
    """
    _check_list("poptorch.cond", "then_inps", then_inps)
    _check_list("poptorch.cond", "else_inps", else_inps)
    _check_inference("poptorch.cond()")
    if _state.current_capture() is not None:
        then_outputs = _as_list(then_body(*[value.clone() for value in then_inps]))
        else_outputs = _as_list(else_body(*[value.clone() for value in else_inps]))
        _check_same("poptorch.cond: else_body's outputs", then_outputs, else_outputs)
        return then_outputs
    if bool(condition):
        return _as_list(then_body(*[value.clone() for value in then_inps]))
    return _as_list(else_body(*[value.clone() for value in else_inps]))


class CPU:
    """A layer that runs on the host in the middle of a captured model.

    Outside an executor it is a call of the layer.

    Args:
        layer_to_call: a module, whose parameters stop requiring gradients, or a function.
        ID: name of the operator.
    """

    def __init__(self, layer_to_call: Union[nn.Module, Callable[..., Any]], ID: str) -> None:
        if isinstance(layer_to_call, nn.Module):
            layer_to_call.requires_grad_(False)
        self._layer = layer_to_call
        self._id = ID

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer.

        Raises:
            NotImplementedError: inside an executor.
        """
        if _state.is_running():
            raise NotImplementedError(
                f"poptorch.CPU({self._id!r}) inside an executor is not available in poptorch_host"
                " yet; call the layer outside the model, before or after it"
            )
        return self._layer(*args, **kwargs)


def _check_inference(function: str) -> None:
    if _state.losses() is not None:
        raise createPoptorchError(f"{function} is only supported in inference.")


def _as_list(outputs: Union[Tensor, Sequence[Tensor]]) -> List[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _check_list(function: str, name: str, inputs: object) -> None:
    if not isinstance(inputs, list):
        raise ValueError(
            f"{function} expects input tensors ({name}) to be a list of tensors."
            " (Object is not list)"
        )
    for index, value in enumerate(inputs):
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{function} expects input tensors ({name}) to be a list of tensors."
                f" (Object contained in list at index {index} is not torch.tensor)"
            )


def _check_same(what: str, expected: Sequence[Tensor], got: Sequence[Tensor]) -> None:
    def describe(tensors: Sequence[Tensor]) -> List[str]:
        return [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors]

    if describe(expected) != describe(got):
        raise createPoptorchError(f"{what} must be {describe(expected)}, got {describe(got)}")
