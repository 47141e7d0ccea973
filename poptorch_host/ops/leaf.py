"""PopTorch's own operators that torch does not have: a node in a capture, a function in a run.

Outside an executor, and for each micro-batch inside one, the function computes; a capture only
learns the shapes and dtypes of the results.
"""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .. import _state
from ..tensors import names


class Result(NamedTuple):
    """What a capture needs to know of one result."""

    shape: Tuple[int, ...]
    dtype: torch.dtype


def call(
    operator: str,
    inputs: Sequence[Tensor],
    results: Sequence[Result],
    compute: Callable[[List[Tensor]], List[Tensor]],
) -> List[Tensor]:
    """Call an operator.

    Args:
        operator: its name, counted as `poptorch::operator`.
        inputs: every tensor that `compute` reads, and its argument; at least one.
        results: one entry for each tensor that `compute` returns.
    """
    capture = _state.current_capture()
    if capture is not None:
        capture.record(f"poptorch::{operator}")
        outputs = [inputs[0].new_zeros(one.shape, dtype=one.dtype) for one in results]
        losses = _state.losses()
        if losses is not None:
            losses.follow(inputs, outputs)
        names.made(operator, outputs)
        return outputs
    exporter = _state.exporter()
    if exporter is not None:
        examples = [torch.empty(one.shape, dtype=one.dtype, device="meta") for one in results]
        return exporter.call(compute, inputs, examples)
    with names.suspended():
        outputs = compute(list(inputs))
    names.made(operator, outputs)
    return outputs
