"""Arguments of one call: bound to `forward`'s parameters, compared with the compiled ones.

Fixed at compile: structure, shapes, dtypes and the values of everything that is no tensor.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

import torch

from .._logging import logger
from ..errors import createPoptorchError
from .structure import flatten, in_order_of, map_tensors, parser_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_HINT = (
    " The inputs differ from those the model was compiled with: shapes, types and values that are"
    " no tensors are fixed at compile. Make another wrapper for other inputs, or call destroy() on"
    " this one to compile again."
)


class Arguments(NamedTuple):
    """A call in one fixed form: `forward(*args, **kwargs)`, defaults filled in."""

    args: Tuple[Any, ...]
    """One value per positional parameter, then those of `*args`."""
    kwargs: Dict[str, Any]
    """Keyword-only parameters and those of `**kwargs`."""
    names: Tuple[str, ...]
    """A name for each of `args`: its parameter's, or `args[i]`."""


def bind_arguments(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Arguments:
    """Assign a call's arguments to the parameters of a bound `forward`.

    Raises:
        AssertionError: too many, unknown or repeated arguments.
        poptorch.Error: a parameter without default is missing.
    """
    parameters = list(inspect.signature(forward).parameters.values())
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    keyword_only = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    variadic = [p for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    accepts_any_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    named = [p.name for p in positional + keyword_only]

    if not variadic and not accepts_any_keyword:
        given = len(args) + len(kwargs)
        assert given <= len(named), (
            f"Too many arguments provided: expected {named} ({len(named)}) but got {given}"
        )
    assert variadic or len(args) <= len(positional), (
        f"Too many arguments provided: expected {[p.name for p in positional]}"
        f" ({len(positional)}) but got {len(args)}"
    )
    for name in kwargs:
        assert accepts_any_keyword or name in named, (
            f"{name} is not a valid parameter.Allowed values are {named}"
        )
    for parameter in positional[: len(args)]:
        assert parameter.name not in kwargs, f"Parameter {parameter.name} was passed more than once"

    remaining = dict(kwargs)
    bound = list(args[: len(positional)])
    bound += [_take(p, remaining) for p in positional[len(args) :]]
    names = [p.name for p in positional]
    extra = args[len(positional) :]
    names += [f"{variadic[0].name}[{i}]" for i in range(len(extra))]
    by_keyword = {p.name: _take(p, remaining) for p in keyword_only}
    by_keyword.update(remaining)
    return Arguments(tuple(bound) + tuple(extra), by_keyword, tuple(names))


def prepare_arguments(arguments: Arguments, warned: Set[str]) -> Arguments:
    """Tensors made contiguous and cut from autograd, each with one warning.

    `warned` holds the kinds of warning an executor has already given, and is added to.

    Raises:
        poptorch.Error: a tensor without elements.
    """

    def warn_once(kind: str, message: str) -> None:
        if kind not in warned:
            warned.add(kind)
            logger.warning(message)

    def prepare(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == 0:
            raise createPoptorchError(
                f"Zero-sized tensors are unsupported (Got shape {list(tensor.shape)})"
            )
        if not tensor.is_contiguous():
            warn_once(
                "contiguous",
                "At least one input tensor is not contiguous:"
                " non-contiguous tensors will be converted.",
            )
            tensor = tensor.contiguous()
        if tensor.requires_grad:
            warn_once(
                "requires_grad",
                "Input tensor has requires_grad=True set."
                " This tensor will be detached because the gradient of inputs is not computed.",
            )
            tensor = tensor.detach()
        return tensor

    for value in [*arguments.args, *arguments.kwargs.values()]:
        if isinstance(value, dict):
            warn_once("dict", "Dicts as inputs only have partial support.")
    return arguments._replace(
        args=tuple(map_tensors(value, prepare) for value in arguments.args),
        kwargs={name: map_tensors(value, prepare) for name, value in arguments.kwargs.items()},
    )


def compare_arguments(compiled: Arguments, call: Arguments) -> None:
    """Raise poptorch.Error when more than tensor values differs from what was compiled."""
    if len(compiled.args) != len(call.args):
        raise createPoptorchError(
            f"Number of positional arguments mismatch: expected {len(compiled.args)} arguments but"
            f" got {len(call.args)}." + _HINT
        )
    for name, expected, got in zip(compiled.names, compiled.args, call.args):
        _compare(name, expected, got)
    _compare_keys("kwargs", compiled.kwargs, call.kwargs)
    for name, expected in compiled.kwargs.items():
        _compare(name, expected, call.kwargs[name])


def in_compiled_order(compiled: Arguments, call: Arguments) -> Arguments:
    """The call with the items of mappings in the order in which the compiled call has them.

    Tensors are counted in that order. Keys are those of `compiled`, as `compare_arguments` checks.
    """
    return call._replace(
        args=tuple(in_order_of(compiled.args, call.args)),
        kwargs=in_order_of(compiled.kwargs, call.kwargs),
    )


def _take(parameter: inspect.Parameter, remaining: Dict[str, Any]) -> Any:
    if parameter.name in remaining:
        return remaining.pop(parameter.name)
    if parameter.default is inspect.Parameter.empty:
        raise createPoptorchError(f"Mandatory parameter {parameter.name} missing")
    return parameter.default


def _compare(name: str, expected: Any, got: Any) -> None:
    both_tensors = isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor)
    if not both_tensors and type(expected) is not type(got):
        raise _mismatch("Type", name, type(expected), type(got))
    if both_tensors:
        if expected.dtype != got.dtype:
            raise _mismatch("Data type", name, expected.dtype, got.dtype)
        if expected.shape != got.shape:
            raise _mismatch("Shape", name, expected.shape, got.shape)
    elif parser_of(expected) is not None:
        _compare(name, flatten(expected), flatten(got))
    elif isinstance(expected, dict):
        _compare_keys(name, expected, got)
        for key, value in expected.items():
            _compare(f"{name}[{key}]", value, got[key])
    elif isinstance(expected, (list, tuple)):
        if len(expected) != len(got):
            raise createPoptorchError(
                f"Length mismatch for {name}: expected {len(expected)} elements but got"
                f" {len(got)}." + _HINT
            )
        for index, (one, other) in enumerate(zip(expected, got)):
            _compare(f"{name}[{index}]", one, other)
    elif not _equal(expected, got):
        raise _mismatch("Value", name, expected, got)


def _equal(expected: Any, got: Any) -> bool:
    if isinstance(expected, float) and expected != expected:  # NaN is not equal to itself
        return bool(got != got)
    if getattr(expected, "shape", None) != getattr(got, "shape", None):
        return False
    same = expected == got
    return bool(same.all() if hasattr(same, "all") else same)  # arrays compare by element


def _compare_keys(name: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    if expected.keys() == got.keys():
        return
    parts: List[str] = []
    unexpected = [str(key) for key in got if key not in expected]
    missing = [str(key) for key in expected if key not in got]
    if unexpected:
        parts.append(f"Unexpected arguments: {', '.join(unexpected)}.")
    if missing:
        parts.append(f"Missing arguments: {', '.join(missing)}.")
    raise createPoptorchError(f"Keys mismatch for {name}: {' '.join(parts)}" + _HINT)


def _mismatch(what: str, name: str, expected: object, got: object) -> Exception:
    return createPoptorchError(
        f"{what} mismatch for {name}: expected {expected} but got {got}." + _HINT
    )
