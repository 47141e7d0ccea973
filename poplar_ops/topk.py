"""Top-k of rows, with ties broken by index on every path.

B rows, N values a row, k kept.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from poplar_ops import library, plain
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["Selection", "topk_select"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class Selection(NamedTuple):
    """The k largest values of every row, in descending order."""

    values: Tensor
    """(B, k), of the input's dtype."""
    indices: Tensor
    """(B, k) int32, columns."""


def topk_select(x: Tensor, k: int) -> Selection:
    """The k largest values of every row; equal values in the order of their columns.

    0.0 and -0.0 are equal. NaN ranks with -infinity, so it is never preferred to a number. On an
    IPU this is `torch.topk`, whose order of equal values PopTorch leaves open. No gradient flows:
    gather by `indices` where one is needed.

    Args:
        x: (B, N) float32, float16 or bfloat16.
        k: values kept a row, 1 <= k <= N.

    Raises:
        ValueError: `x` has another rank, or `k` is out of range.
        TypeError: `x` has another dtype.
    """
    if x.dim() != 2:
        raise ValueError(f"x must be (B, N), got {tuple(x.shape)}")
    if x.dtype not in FLOATS:
        raise TypeError(f"x must be float32, float16 or bfloat16, got {x.dtype}")
    if not 1 <= k <= x.shape[1]:
        raise ValueError(f"k must be from 1 to N = {x.shape[1]}, got {k}")
    if not IS_HOST and poptorch.isRunningOnIpu():
        values, indices = torch.topk(x.detach(), k)
        return Selection(values, indices.int())
    values, indices = torch.ops.poplar_ops.topk_select(x.detach().float().contiguous(), k)
    return Selection(values.to(x.dtype), indices)


def run_compiled(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """The library's kernel on CPU tensors; the operator's contract is in its schema."""
    values, indices = fake(x, k)
    library.run("poplar_ops_topk_select", x, values, indices)
    return values, indices


def fake(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Empty results of the right shapes and dtypes."""
    shape = (x.shape[0], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int32)


library.define(
    "topk_select",
    "(Tensor x, int k) -> (Tensor, Tensor)",
    compiled=run_compiled,
    plain=plain.topk_select,
    fake=fake,
)
if IS_HOST:
    from poptorch_host import host

    host.register_operator("poplar_ops::topk_select", lowers_to="aten::topk")
