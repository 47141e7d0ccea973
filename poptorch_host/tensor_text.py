"""Tensors as text: values as `ipu_print_tensor` writes them, and tensors that have none yet."""

from __future__ import annotations

import math
import textwrap
from typing import Optional, Tuple

from torch import Tensor

FLOAT_FORMATS = ("auto", "fixed", "scientific", "none")


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
        digits: after the decimal point; not for float_format "none" and integers.
    """
    scientific = float_format == "scientific"
    if float_format == "auto" and tensor.is_floating_point():
        magnitude = tensor.detach().double().abs()
        largest = float(magnitude.nan_to_num(0.0, posinf=0.0).max())
        scientific = largest >= 1e6 or 0 < largest < 1e-4

    def value_text(value: object) -> str:
        if not isinstance(value, float) or float_format == "none" or not math.isfinite(value):
            return str(value)
        return f"{value:.{digits}{'e' if scientific else 'f'}}"

    def rows(part: Tensor) -> str:
        if part.dim() == 0:
            return value_text(part.item())
        count = part.shape[0]
        if edge_items is not None and count > 2 * edge_items:
            texts = [rows(part[i]) for i in range(edge_items)] + ["..."]
            texts += [rows(part[i]) for i in range(count - edge_items, count)]
        else:
            texts = [rows(one) for one in part]
        if part.dim() > 1:
            return brackets[0] + (separator.rstrip() + "\n ").join(texts) + brackets[1]
        line = brackets[0] + separator.join(texts) + brackets[1]
        width = max(max_line_width, 1)
        return "\n ".join(textwrap.wrap(line, width, break_long_words=False)) or line

    return rows(tensor.detach())
