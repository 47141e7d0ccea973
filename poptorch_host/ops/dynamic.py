"""Slices that begin where a tensor says: `dynamic_slice` and `dynamic_update`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import createPoptorchError


def dynamic_slice(tensor: Tensor, dim: int, start: Tensor, size: int, step: int) -> Tensor:
    """Elements start, start + step, ... below start + size of one dimension.

    Args:
        start: one integer; elements beyond the end are taken from the beginning.
        size: must divide the dimension.
        step: at least 1.

    Returns:
        the tensor with ceil(size / step) elements along `dim`.

    Raises:
        poptorch.Error: arguments of other types, a size that does not divide, a step below 1.
    """
    _check_types("dynamic_slice", {"input": tensor, "start": start}, {"dim": dim, "size": size})
    if not isinstance(step, int):
        raise createPoptorchError(f"dynamic_slice: Step must be an integer, got {step!r}")
    if step < 1:
        raise createPoptorchError(f"dynamic_slice: the step must be at least 1, got {step}")
    return torch.index_select(tensor, dim, _window(tensor, dim, start, size, step))


def dynamic_update(input: Tensor, src: Tensor, dim: int, start: Tensor, size: int) -> Tensor:
    """A copy of `input` with `src` written to start .. start + size of one dimension.

    Args:
        src: as `input`, with `size` elements along `dim`.
        start: one integer; what would lie beyond the end is written at the beginning.
        size: must divide the dimension.

    Raises:
        poptorch.Error: arguments of other types, shapes or dtypes, a size that does not divide.
    """
    tensors = {"input": input, "src": src, "start": start}
    _check_types("dynamic_update", tensors, {"dim": dim, "size": size})
    if input.dim() != src.dim():
        raise createPoptorchError(
            "dynamic_update: input and src must have the same dimensionality, got"
            f" {input.dim()} and {src.dim()}"
        )
    if input.dtype != src.dtype:
        raise createPoptorchError(
            "dynamic_update: input and src must have the same dtype, got"
            f" {input.dtype} and {src.dtype}"
        )
    index = _window(input, dim, start, size, 1)
    expected = list(input.shape)
    expected[dim] = size
    if list(src.shape) != expected:
        raise createPoptorchError(
            f"dynamic_update: src must be {expected} for size {size} along dimension {dim}, got"
            f" {list(src.shape)}"
        )
    shape = [1] * input.dim()
    shape[dim] = size
    return torch.scatter(input, dim, index.view(shape).expand_as(src), src)


def _check_types(name: str, tensors: object, integers: object) -> None:
    assert isinstance(tensors, dict) and isinstance(integers, dict)
    for what, value in tensors.items():
        if not isinstance(value, Tensor):
            raise createPoptorchError(
                f"{name} must take a torch.tensor {what}, got {type(value).__name__}"
            )
    if not isinstance(integers["dim"], int):
        raise createPoptorchError(f"{name}: Dimension must be an integer, got {integers['dim']!r}")
    if not isinstance(integers["size"], int):
        raise createPoptorchError(f"{name}: Size must be an integer, got {integers['size']!r}")


def _window(tensor: Tensor, dim: int, start: Tensor, size: int, step: int) -> Tensor:
    """(ceil(size / step),) int64 indices, wrapped at the end of the dimension."""
    if not -tensor.dim() <= dim < tensor.dim():
        raise createPoptorchError(
            f"A dynamic slice along dimension {dim} of a tensor with {tensor.dim()} dimensions"
        )
    length = tensor.shape[dim]
    if size < 1:
        raise createPoptorchError(f"The size of a dynamic slice must be at least 1, got {size}")
    if length % size != 0:
        raise createPoptorchError(
            f"The size of a dynamic slice must divide the dimension: {size} does not divide"
            f" {length}"
        )
    if start.numel() != 1 or start.is_floating_point():
        raise createPoptorchError(
            f"The start of a dynamic slice must be one integer, got {start.dtype} of shape"
            f" {list(start.shape)}"
        )
    offsets = torch.arange(0, size, step, device=tensor.device)
    return (offsets + start.reshape(())).remainder(length).to(torch.int64)
