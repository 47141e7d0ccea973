"""Batch norm, and the bias before it, folded into the convolution for inference.

The arithmetic is float64, rounded once. Fold before `half()` or `bfloat16()`: the product of two
rounded factors is worse than one rounded product. Modules that can fold have a method `fold()`;
this file knows the arithmetic and the order.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, List, TypeVar, Union

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from detectors.layers import FrozenBatchNorm2d

__all__ = ["fold_batch_norm", "fold_conv_norm"]

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


def fold_conv_norm(conv: nn.Conv2d, norm: Union[nn.BatchNorm2d, FrozenBatchNorm2d]) -> nn.Conv2d:
    """One convolution that computes `norm(conv(x))` with the norm's running statistics.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta = (s W) x + (s (b - mean) + beta).

    Args:
        conv: with or without bias; left as it is.
        norm: of `conv.out_channels` channels; left as it is.

    Returns:
        A convolution of `conv`'s class and precision, with bias.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("only a batch norm with running statistics folds; this one has none")
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)  # (out,)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias: Tensor = -norm.running_mean.double() * scale
    if conv.bias is not None:
        bias = bias + conv.bias.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter(weight.to(conv.weight.dtype).detach())
    folded.bias = nn.Parameter(bias.to(conv.weight.dtype).detach())
    return folded


def fold_batch_norm(model: Model) -> Model:
    """A copy of a model for inference: batch norms folded, fusion weights normalised once.

    The copy is in evaluation mode; its state dict no longer has the original's names.

    Args:
        model: float32 parameters; left as it is.

    Returns:
        A model of the same class with the same forward.

    Raises:
        ValueError: the parameters are not float32.
    """
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if dtypes - {torch.float32}:
        names = sorted(str(dtype) for dtype in dtypes)
        raise ValueError(
            f"fold_batch_norm needs float32 parameters, got {names}: fold first, then half()"
        )
    folded = copy.deepcopy(model).eval()
    modules = list(folded.modules())  # fold() replaces children: list before
    for module in modules:
        fold = getattr(module, "fold", None)
        if callable(fold):
            fold()
    left: List[str] = [
        name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)
    ]
    if left:
        logger.warning("%d batch norms were not folded, first %s", len(left), left[0])
    return folded
