"""Custom operators: called by (domain, name, version), computed by a function of the host's table.

Shapes and dtypes of the results are those of `example_outputs`.
"""

from __future__ import annotations

import functools
import zlib
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch

from . import _state
from .errors import createPoptorchError
from .tensors import names

Scalar = Union[int, float, str]
Attribute = Union[Scalar, Sequence[int], Sequence[float], Sequence[str]]
Implementation = Callable[[List[torch.Tensor], Dict[str, Attribute]], List[torch.Tensor]]

MAX_FLOAT = 3.4028234663852886e38  # largest float32: PopART's float attributes
_NARROW = {torch.int64: torch.int32, torch.float64: torch.float32}  # as outputs are returned
captured_attributes: Dict[str, Dict[str, Attribute]] = {}
"""Attributes of the custom operators captured so far, by `attribute_id`."""
_table: Dict[Tuple[str, str, int], Implementation] = {}


class Like(NamedTuple):
    """What an example says of a result."""

    shape: Tuple[int, ...]
    dtype: torch.dtype


def register(domain: str, name: str, function: Implementation, version: int = 1) -> None:
    """Compute the operator by `function(inputs, attributes) -> outputs` from now on."""
    _table[(domain, name, version)] = function


def implementation(domain: str, name: str, version: int) -> Implementation:
    """The registered function.

    Raises:
        poptorch.Error: there is none.
    """
    if (domain, name, version) not in _table:
        known = ", ".join(f"{d}.{n}:{v}" for d, n, v in sorted(_table)) or "none"
        raise createPoptorchError(
            f"Unable to find op {domain}.{name}:{version}. Registered on this host: {known}. Add"
            f' it with poptorch_host.host.register_custom_op("{domain}", "{name}", function,'
            f" version={version})"
        )
    return _table[(domain, name, version)]


def custom_op(
    inputs: Sequence[torch.Tensor],
    name: str,
    domain: str,
    domain_version: int,
    example_outputs: Sequence[torch.Tensor],
    attributes: Optional[Dict[str, Attribute]] = None,
) -> List[torch.Tensor]:
    """Call a custom operator.

    Inside an executor the function registered for (domain, name, domain_version) computes it;
    elsewhere the results are zeros, as in PopTorch.

    Args:
        inputs: what the operator reads.
        example_outputs: one tensor per result with its shape and dtype; the values are not read.
        attributes: int, float or ASCII str values, or lists and tuples of one of these kinds.

    Returns:
        one tensor per example, always in a list.

    Raises:
        ValueError: an attribute of another kind.
        poptorch.Error: a float attribute beyond float32, no function registered, or results that
            differ from the examples.
    """
    attributes = {} if attributes is None else dict(attributes)
    check_attributes(attributes)
    if not _state.is_running():
        return [torch.zeros_like(example) for example in example_outputs]

    implementation(domain, name, domain_version)
    capture = _state.current_capture()
    if capture is not None:
        capture.record(f"{domain}::{name}")
        captured_attributes[attribute_id(attributes)] = attributes
        like = inputs[0] if inputs else example_outputs[0]
        zeros = [like.new_zeros(e.shape, dtype=e.dtype) for e in example_outputs]
        losses = _state.losses()
        if losses is not None:
            losses.follow(inputs, zeros)
        names.made(name, zeros)
        return zeros

    call = functools.partial(
        run, name=name, domain=domain, version=domain_version, attributes=attributes
    )
    exporter = _state.exporter()
    if exporter is not None:
        likes = [Like(tuple(example.shape), example.dtype) for example in example_outputs]
        return exporter.call(functools.partial(call, examples=likes), inputs, example_outputs)
    return call(list(inputs), examples=example_outputs)


def run(
    inputs: List[torch.Tensor],
    *,
    name: str,
    domain: str,
    version: int,
    attributes: Dict[str, Attribute],
    examples: Sequence[Union[torch.Tensor, Like]],
) -> List[torch.Tensor]:
    """Compute a custom operator by its registered function.

    Args:
        examples: one per result, with its shape and dtype.
    """
    function = implementation(domain, name, version)
    with names.suspended():
        outputs = function(list(inputs), attributes)
    _check_outputs(f"{domain}.{name}:{version}", outputs, examples)
    names.made(name, outputs)
    return list(outputs)


def attribute_id(attributes: Dict[str, Attribute]) -> str:
    """What stands for attributes in a captured graph; equal ones have one id."""
    text = repr(sorted((key, repr(value)) for key, value in attributes.items()))
    return f"attr:{zlib.crc32(text.encode()):08x}"


def check_attributes(attributes: Dict[str, Attribute]) -> None:
    """Raise as `custom_op` does when PopART could not take the attributes."""
    if not all(isinstance(key, str) for key in attributes):
        raise ValueError("All attribute keys must be strings.")
    for key, value in attributes.items():
        _check_ascii(key)
        if isinstance(value, (list, tuple)):
            kinds = {type(one) for one in value}
            if len(kinds) > 1:
                raise ValueError(
                    f"Attribute {key}: all elements of a list must be of one type, got"
                    f" {sorted(kind.__name__ for kind in kinds)}."
                )
            if not kinds:
                raise ValueError(f"Attribute {key}: the type of an empty list is not known.")
            for one in value:
                _check_scalar(key, one)
        else:
            _check_scalar(key, value)


def _check_ascii(text: str) -> None:
    if not text.isascii():
        raise ValueError(f"{text} contains non-ASCII characters.")


def _check_scalar(key: str, value: object) -> None:
    if isinstance(value, str):
        _check_ascii(value)
    elif isinstance(value, float):
        if value > MAX_FLOAT:
            raise createPoptorchError(f"{value} is too high for a Popart float attribute.")
        if value < -MAX_FLOAT:
            raise createPoptorchError(f"{value} is too low for a Popart float attribute.")
    elif not isinstance(value, int):
        raise ValueError(
            f"Invalid attribute type {type(value).__name__} of {key}: expected int, float, str, or"
            " a list or tuple of one of these."
        )


def _check_outputs(
    op: str, outputs: Sequence[torch.Tensor], examples: Sequence[Union[torch.Tensor, Like]]
) -> None:
    def describe(tensors: Sequence[Union[torch.Tensor, Like]]) -> List[str]:
        return [f"{_NARROW.get(t.dtype, t.dtype)} {tuple(t.shape)}" for t in tensors]

    expected, got = describe(examples), describe(outputs)
    if expected != got:
        raise createPoptorchError(
            f"{op} returned {got}, but example_outputs say {expected}: the registered function"
            " must return the shapes and dtypes of the examples"
        )
