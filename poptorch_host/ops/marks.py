"""PopTorch's marks on tensors: the loss, activations to keep, memory to use.

Each returns its tensor or a plain reduction of it; on a host the graph compiler's hints change no
result.
"""

from __future__ import annotations

from typing import Any, List, Tuple, TypeVar, overload

from torch import Tensor

from .. import _state
from ..errors import createPoptorchError

T = TypeVar("T", Tensor, List[Tensor], Tuple[Tensor, ...])


def identity_loss(x: Tensor, reduction: str) -> Tensor:
    """Mark the tensor that is differentiated in training.

    Args:
        reduction: "sum", "mean" or "none".

    Returns:
        the reduced tensor, 0-d; for "none" a copy of `x`.
    """
    assert reduction in ("sum", "mean", "none"), "Unsupported reduction type!"
    loss = x.clone() if reduction == "none" else x.sum() if reduction == "sum" else x.mean()
    losses = _state.losses()
    if losses is not None:
        losses.mark("identity_loss", loss)
    return loss


@overload
def recomputationCheckpoint(tensor: T, /) -> T: ...


@overload
def recomputationCheckpoint(*tensors: T) -> Tuple[T, ...]: ...


def recomputationCheckpoint(*tensors: Any) -> Any:
    """Keep these activations when a pipeline recomputes the others.

    Returns:
        one argument as itself (a list stays a list), several as a tuple.

    Raises:
        ValueError: anything but tensors.
    """
    for one in tensors:
        members = one if isinstance(one, (list, tuple)) else [one]
        if not all(isinstance(member, Tensor) for member in members):
            raise ValueError("All inputs must be tensors")
    capture, exporter = _state.current_capture(), _state.exporter()
    if capture is not None:
        capture.record("poptorch::recomputationCheckpoint")
    elif exporter is not None:
        exporter.checkpoint()
    return tensors[0] if len(tensors) == 1 else tensors


def set_available_memory(tensor: Tensor, available_memory_proportion: float) -> Tensor:
    """Limit the temporary memory of the operator that made the tensor; hardware only.

    Raises:
        poptorch.Error: no tensor.
        ValueError: not a part of the memory, 0..1.
    """
    if not isinstance(tensor, Tensor):
        raise createPoptorchError(
            "You may only set available memory for torch.tensor values."
            f" Got {type(tensor).__name__}."
        )
    if not 0 <= available_memory_proportion <= 1:
        raise ValueError(
            "set_available_memory expects a proportion from 0 to 1,"
            f" got {available_memory_proportion}"
        )
    return tensor


def nop(tensor: Tensor) -> Tensor:
    """The tensor itself, as a node of its own on the device.

    Raises:
        poptorch.Error: no tensor.
    """
    if not isinstance(tensor, Tensor):
        raise createPoptorchError(
            f"nop must take a torch.tensor argument, got {type(tensor).__name__}"
        )
    return tensor
