"""Tensors as text: values as `ipu_print_tensor` writes them, and tensors that have none yet."""

from __future__ import annotations

import math
import textwrap
from typing import Any, List, Optional, Tuple, Union

from torch import Tensor

FLOAT_FORMATS = ("auto", "fixed", "scientific", "none")
_MORE = "..."  # where values are left out
_Texts = Union[str, List[Any]]  # nested as the tensor


def unavailable(tensor: Tensor) -> str:
    """What `print` shows of a tensor while a model is captured."""
    return f"tensor(<unavailable>, size={tuple(tensor.shape)}, dtype={tensor.dtype})"


def format_tensor(
    tensor: Tensor,
    *,
    edge_items: Optional[int],
    max_line_width: int,
    digits: int,
    float_format: str,
    separator: str,
    brackets: Tuple[str, str],
) -> str:
    """Nested brackets, one line per innermost row, wrapped at `max_line_width` characters.

    Args:
        edge_items: values shown at each end of every dimension; None shows all.
        max_line_width: 0 wraps nothing.
        digits: after the decimal point; not for float_format "none" and integers. Unless 0, all
            values get the width of the widest.
    """
    scientific = float_format == "scientific"
    if float_format == "auto" and tensor.is_floating_point():
        magnitude = tensor.double().abs()
        largest = float(magnitude.nan_to_num(0.0, posinf=0.0).max()) if tensor.numel() else 0.0
        scientific = largest >= 1e6 or 0 < largest < 1e-4

    def value_text(value: object) -> str:
        free = float_format == "none" or digits == 0
        if not isinstance(value, float) or free or not math.isfinite(value):
            return str(value)
        return f"{value:.{digits}{'e' if scientific else 'f'}}"

    def texts(part: Tensor) -> _Texts:
        if part.dim() == 0:
            return value_text(part.item())
        count = part.shape[0]
        if edge_items is None or count <= 2 * edge_items:
            return [texts(one) for one in part]
        first = [texts(part[i]) for i in range(edge_items)]
        return [*first, _MORE, *[texts(part[i]) for i in range(count - edge_items, count)]]

    def rows(part: _Texts, depth: int) -> str:
        if isinstance(part, str):
            return part if part == _MORE else part.rjust(width)
        members = [rows(one, depth - 1) for one in part]
        if depth > 1:
            return brackets[0] + (separator.rstrip() + "\n ").join(members) + brackets[1]
        line = brackets[0] + separator.join(members) + brackets[1]
        if not 0 < max_line_width < len(line):
            return line
        return "\n ".join(textwrap.wrap(line, max_line_width, break_long_words=False))

    shown = texts(tensor.detach())
    width = _widest(shown) if digits else 0
    return rows(shown, tensor.dim())


def _widest(texts: _Texts) -> int:
    if isinstance(texts, str):
        return 0 if texts == _MORE else len(texts)
    return max(map(_widest, texts), default=0)
