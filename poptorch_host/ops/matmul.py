"""`serializedMatMul`: a matrix product in parts, which a device needs less memory for."""

from __future__ import annotations

import torch
from torch import Tensor

from ..enums import MatMulSerializationMode as Mode
from ..errors import createPoptorchError


def serializedMatMul(
    lhs: Tensor, rhs: Tensor, mode: Mode, factor: int = 0, keep_precision: bool = False
) -> Tensor:
    """`lhs @ rhs`, split into `factor` products along a dimension to save memory on the device.

    A host computes it in one go and sums half products in float32, so `keep_precision` changes
    nothing here.

    Args:
        lhs: (..., M, K).
        rhs: (..., K, N).
        mode: the dimension: InputChannels M, ReducingDim K, OutputChannels N, or Disabled.
        factor: number of products, a divisor of the dimension; 0 leaves it to the device.
        keep_precision: sum half products in float32.

    Raises:
        AssertionError: arguments of other types.
        poptorch.Error: the dimension is no multiple of `factor`.
    """
    assert isinstance(keep_precision, bool), (
        f"serializedMatMul expects keep_precision to be a bool, got {keep_precision!r}"
    )
    assert isinstance(factor, int), f"serializedMatMul expects factor to be an int, got {factor!r}"
    assert isinstance(mode, Mode), (
        f"serializedMatMul expects a poptorch.MatMulSerializationMode, got {mode!r}"
    )
    if mode is not Mode.Disabled and factor != 0:
        size = {
            Mode.InputChannels: lhs.shape[-2] if lhs.dim() > 1 else 1,
            Mode.ReducingDim: lhs.shape[-1],
            Mode.OutputChannels: rhs.shape[-1] if rhs.dim() > 1 else 1,
        }[mode]
        if factor < 0 or size % factor != 0:
            raise createPoptorchError(
                f"serializedMatMul: factor {factor} must divide the dimension that {mode} splits,"
                f" {size}"
            )
    return torch.matmul(lhs, rhs)
