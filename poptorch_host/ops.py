"""Operators of PopTorch's own that are identities or plain PyTorch on a host.

Outside an executor each is differentiable PyTorch; the graph compiler's hints change no result.
"""

from __future__ import annotations

import sys
from typing import Any, List, Sequence, Tuple, TypeVar, overload

import torch
from torch import Tensor

from . import _state
from .checks import createPoptorchError
from .enums import MatMulSerializationMode, OverlapMode
from .tensor_text import FLOAT_FORMATS, format_tensor

S = TypeVar("S")
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
    """The tensor itself, as a node of its own on the device."""
    return tensor


def ipu_print_tensor(
    tensor: Tensor,
    title: str = "",
    print_gradient: bool = True,
    summarise_threshold: int = 1000,
    edge_items: int = 3,
    max_line_width: int = 80,
    digits: int = 4,
    float_format: str = "auto",
    separator: str = ", ",
    open_bracket: str = "(",
    close_bracket: str = ")",
) -> Tensor:
    """Write the tensor to stderr each time an executor computes it: `title: {...}`.

    Outside an executor nothing is written.

    Args:
        print_gradient: in training write its gradient, too: `Gradient___title: {...}`.
        summarise_threshold: more elements than this show only `edge_items` at each end.
        float_format: auto, fixed, scientific or none.

    Returns:
        the tensor itself.
    """
    if float_format not in FLOAT_FORMATS:
        raise ValueError(f"float_format must be one of {FLOAT_FORMATS}, got {float_format!r}")

    def write(label: str, values: Tensor) -> None:
        text = format_tensor(
            values.detach(),
            edge_items=edge_items if values.numel() > summarise_threshold else None,
            max_line_width=max_line_width,
            digits=digits,
            float_format=float_format,
            separator=separator,
            brackets=(open_bracket, close_bracket),
        )
        sys.stderr.write(f"{label}: {{{text}}}\n")

    if _state.is_running() and _state.current_capture() is None:
        write(title, tensor)
        if print_gradient and tensor.requires_grad:
            watched: Any = tensor  # torch has no types for hooks
            watched.register_hook(lambda gradient: write(f"Gradient___{title}", gradient))
    return tensor


def serializedMatMul(
    lhs: Tensor,
    rhs: Tensor,
    mode: MatMulSerializationMode,
    factor: int = 0,
    keep_precision: bool = False,
) -> Tensor:
    """`lhs @ rhs`, split into `factor` products along a dimension to save memory on the device.

    Args:
        lhs: (..., M, K).
        rhs: (..., K, N).
        mode: the dimension: InputChannels M, ReducingDim K, OutputChannels N.

    Raises:
        poptorch.Error: the dimension is no multiple of `factor`.
    """
    assert isinstance(mode, MatMulSerializationMode), (
        f"serializedMatMul expects a poptorch.MatMulSerializationMode, got {type(mode)}"
    )
    if mode is not MatMulSerializationMode.Disabled and factor > 0:
        sizes = {
            MatMulSerializationMode.InputChannels: lhs.shape[-2],
            MatMulSerializationMode.ReducingDim: lhs.shape[-1],
            MatMulSerializationMode.OutputChannels: rhs.shape[-1],
        }
        if sizes[mode] % factor != 0:
            raise createPoptorchError(
                f"serializedMatMul: factor {factor} must divide the dimension that {mode} splits,"
                f" {sizes[mode]}"
            )
    return torch.matmul(lhs, rhs)


def dynamic_slice(tensor: Tensor, dim: int, start: Tensor, size: int, step: int) -> Tensor:
    """Elements start, start + step, ... below start + size of one dimension.

    Args:
        start: one integer; out of range it is an error on a host, undefined on a device.
        size: must divide the dimension.

    Returns:
        the tensor with ceil(size / step) elements along `dim`.
    """
    return torch.index_select(tensor, dim, _window(tensor, dim, start, size, step))


def dynamic_update(input: Tensor, src: Tensor, dim: int, start: Tensor, size: int) -> Tensor:
    """A copy of `input` with `src` written to start .. start + size of one dimension.

    Args:
        src: as `input`, with `size` elements along `dim`.
        start: one integer; out of range it is an error on a host, undefined on a device.
        size: must divide the dimension.
    """
    if src.shape[dim] != size:
        raise createPoptorchError(
            f"dynamic_update: src has {src.shape[dim]} elements along dimension {dim},"
            f" but size is {size}"
        )
    shape = [1] * input.dim()
    shape[dim] = size
    index = _window(input, dim, start, size, 1).view(shape).expand_as(src)
    return torch.scatter(input, dim, index, src)


def set_overlap_for_input(input_tensors: S, mode: OverlapMode) -> S:
    """Overlap the transfer of inputs with computation; hardware only. Returns them unchanged."""
    _check_overlap_mode(mode)
    return input_tensors


def set_overlap_for_output(output_tensors: S, mode: OverlapMode) -> S:
    """Overlap the transfer of outputs with computation; hardware only. Returns them unchanged."""
    _check_overlap_mode(mode)
    return output_tensors


def ctc_beam_search_decoder(
    probs: Tensor, lengths: Tensor, blank: int = 0, beam_width: int = 100, top_paths: int = 1
) -> List[Tensor]:
    """Not on the host yet.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.ctc_beam_search_decoder is not available in poptorch_host yet; decode on the"
        " host after the model, for example with torchaudio.models.decoder"
    )


def fps(src: Tensor, ptr: Sequence[int], ratio: float = 0.5, random_start: bool = False) -> Tensor:
    """Farthest point sampling; not on the host yet.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.fps is not available in poptorch_host yet; torch_cluster.fps computes it outside"
        " the model"
    )


def nearest(x: Tensor, y: Tensor, batch_x: Any = None, batch_y: Any = None) -> Tensor:
    """Index of the nearest point; not on the host yet.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.nearest is not available in poptorch_host yet; torch.cdist(x, y).argmin(1)"
        " computes it for one batch"
    )


def _window(tensor: Tensor, dim: int, start: Tensor, size: int, step: int) -> Tensor:
    if tensor.shape[dim] % size != 0:
        raise createPoptorchError(
            f"The size of a dynamic slice must divide the dimension: {size} does not divide"
            f" {tensor.shape[dim]}"
        )
    return torch.arange(0, size, step, device=tensor.device) + start.reshape(())


def _check_overlap_mode(mode: OverlapMode) -> None:
    assert isinstance(mode, OverlapMode), f"expected a poptorch.OverlapMode, got {type(mode)}"
