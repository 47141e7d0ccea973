"""Errors for what `forward` does and the IPU cannot, each with the user's file and line."""

from __future__ import annotations

import torch

from ..errors import Error, compiler_error
from ..provenance import user_line

_DTYPES = frozenset(
    [torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.int64, torch.int32]
    + [torch.int16, torch.int8, torch.uint8, torch.bool]
)
_ONE_VALUE = frozenset(
    ["_local_scalar_dense", "__bool__", "__int__", "__float__", "__index__", "__complex__"]
    + ["__format__"]
)
"""Reads that torch makes through `item`."""


def refusal(message: str, location: str = "") -> Error:
    """The error for something in `forward` that the IPU would refuse.

    Args:
        location: `file:line` of the user's code; by default the line that is being executed.
    """
    return compiler_error(message, location or user_line())


def check_dtype(dtype: torch.dtype) -> None:
    """Raise poptorch.Error for a dtype that does not exist on the IPU and is not narrowed."""
    if dtype not in _DTYPES:
        raise refusal(
            f"Unsupported data type {dtype}: the IPU has float32, float16, int32, int16, int8,"
            " uint8 and bool (float64, bfloat16 and int64 are narrowed)"
        )


def host_read(name: str) -> Error:
    """The error for a value that is needed while the graph is built."""
    name = "item" if name in _ONE_VALUE else name
    return refusal(
        f"aten::{name.strip('_')} is only supported in eager mode, but was intercepted in forward:"
        " a tensor's value (item(), tolist(), numpy(), int(), float(), `if tensor:`) is not known"
        " while the graph is built. Use torch.where"
    )


def check_not_empty(tensor: torch.Tensor) -> None:
    """Raise poptorch.Error for a tensor without elements."""
    if tensor.numel() == 0:
        raise refusal(f"Zero-sized tensors are unsupported (Got shape {list(tensor.shape)})")
