"""`ipu_print_tensor`: the value of a tensor, and of its gradient, on stderr while a model runs."""

from __future__ import annotations

import sys
from typing import Any, List

from torch import Tensor

from .. import _state
from ..errors import createPoptorchError
from ..tensors.tensor_text import FLOAT_FORMATS, format_tensor


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
        summarise_threshold: more elements than this show only `edge_items` at each end; 0 shows
            all.
        max_line_width: longer lines are split; 0 splits none.
        digits: behind the decimal point; all elements get one width. 0 writes each as it is.
        float_format: auto, fixed, scientific or none.

    Returns:
        the tensor itself.

    Raises:
        poptorch.Error: no tensor.
        ValueError: another float format.
    """
    if not isinstance(tensor, Tensor):
        raise createPoptorchError(
            f"ipu print tensor must take a torch.tensor argument, got {type(tensor).__name__}"
        )
    if float_format not in FLOAT_FORMATS:
        raise ValueError(f"float_format must be one of {FLOAT_FORMATS}, got {float_format!r}")

    def write(label: str, values: Tensor) -> None:
        summarised = 0 < summarise_threshold < values.numel()
        text = format_tensor(
            values.detach(),
            edge_items=edge_items if summarised else None,
            max_line_width=max_line_width,
            digits=digits,
            float_format=float_format,
            separator=separator,
            brackets=(open_bracket, close_bracket),
        )
        sys.stderr.write(f"{label}: {{{text}}}\n")

    def show(tensors: List[Tensor]) -> List[Tensor]:
        (tensor,) = tensors
        if _state.is_recomputing():  # it was written when it was computed first
            return tensors
        write(title, tensor)
        if print_gradient and tensor.requires_grad:
            watched: Any = tensor  # torch has no types for hooks
            watched.register_hook(lambda gradient: write(f"Gradient___{title}", gradient))
        return tensors

    exporter = _state.exporter()
    if exporter is not None:
        return exporter.call(show, [tensor], [tensor])[0]
    if _state.is_running() and _state.current_capture() is None:
        show([tensor])
    return tensor
