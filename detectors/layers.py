"""The small layers that every backbone, neck and head is made of.

B images, C channels, H x W cells. "Same" padding is TensorFlow's: outputs are ceil(size / stride),
and an odd total pads one more after than before. Symmetric padding in its place shifts every
feature by a pixel.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.folding import fold_conv_norm

__all__ = [
    "BN_MOMENTUM",
    "build_activation",
    "Conv2dSame",
    "ConvNorm",
    "FixedBatchNorm2d",
    "Float32Buffers",
    "FrozenBatchNorm2d",
    "Normalise",
    "SeparableConv2d",
    "batch_norm",
    "freeze",
    "max_pool_same",
    "require_size",
]

BN_EPS = 1e-3  # as automl; torch's 1e-5 changes converted networks
BN_MOMENTUM = 0.01  # torch's way to write TensorFlow's 0.99


def same_padding(size: int, kernel: int, stride: int) -> Tuple[int, int]:
    """Cells to add before and after one axis so that the output has ceil(size / stride) cells."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Conv2dSame(nn.Conv2d):
    """`nn.Conv2d` with TensorFlow's "same" padding, fixed by the input size, so static in a graph.

    Where the padding is one cell longer after than before, the kernel gets a leading row or column
    of zeros and the padding becomes symmetric: the same sums, without a padded copy of the input.
    In training a 3x3 kernel stays one and the copy is made: the gradient of a depthwise kernel of
    4x4, for which oneDNN has no such loops, takes twelve times as long.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        pads = [
            same_padding(size, kernel, stride)
            for size, kernel, stride in zip(input.shape[-2:], self.kernel_size, self.stride)
        ]
        (top, bottom), (left, right) = pads
        weight, padding = self.weight, (bottom, right)
        if (top, left) != (bottom, right):
            if self.training and self.kernel_size == (3, 3):
                input, padding = F.pad(input, (left, right, top, bottom)), (0, 0)
            else:
                weight = F.pad(weight, (right - left, 0, bottom - top, 0))
        return F.conv2d(input, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def max_pool_same(x: Tensor, kernel: Tuple[int, int], stride: Tuple[int, int]) -> Tensor:
    """Max-pool with TensorFlow's "same" padding; cells outside the map never win.

    Args:
        x: (B, C, H, W).
        kernel: cells (height, width), odd where the stride is 1.
        stride: cells (height, width).

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).
    """
    pads = [same_padding(*axis) for axis in zip(x.shape[-2:], kernel, stride)]
    before = (pads[0][0], pads[1][0])
    # ceil_mode supplies the odd cell at the end, without a padded copy.
    out = F.max_pool2d(x, kernel, stride, before, ceil_mode=before != (pads[0][1], pads[1][1]))
    expected = tuple(-(-size // step) for size, step in zip(x.shape[-2:], stride))
    assert out.shape[-2:] == expected, f"max_pool_same: no kernel {kernel} with stride {stride}"
    return out


class Swish(nn.Module):
    """x * sigmoid(x); in place in evaluation, where its input is needed by nobody else."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.silu(x, inplace=not self.training)


ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "swish": Swish,
    "relu6": nn.ReLU6,
    "none": nn.Identity,
}


def build_activation(name: str) -> nn.Module:
    """The activation layer "swish", "relu6" or "none"."""
    return ACTIVATIONS[name]()


class Float32Buffers(nn.Module):
    """A module whose buffers stay float32 when the model becomes half or bfloat16."""

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Float32Buffers:
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, exact[name].to(buffer.device))
        return self


class FrozenBatchNorm2d(Float32Buffers):
    """Batch norm whose statistics, scale and shift are constants; `nn.BatchNorm2d`'s names.

    Half precision has no room for `running_var + eps`, so the constants stay float32.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # counts what is not trained here
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and dtype."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # (C,)
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype).view(-1, 1, 1), x, scale.to(x.dtype).view(-1, 1, 1))


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps its statistics, also in training mode.

    Unlike `FrozenBatchNorm2d` it is an `nn.BatchNorm2d` to whoever folds or loads it.
    """

    def train(self, mode: bool = True) -> FixedBatchNorm2d:
        """Training mode is evaluation mode."""
        super().train(False)
        return self


NORMS = (nn.BatchNorm2d, FixedBatchNorm2d)
"""What `freeze` can keep as it is."""


def freeze(module: nn.Module, *, norms_only: bool = False) -> None:
    """Keep a module as it is in training: parameters without gradient, batch norms fixed.

    Args:
        module: changed in place; no batch norm itself.
        norms_only: the batch norms alone; everything else is trained.

    Raises:
        ValueError: a batch norm of another class, such as timm's with its activation, which would
            go on moving its statistics.
    """
    for child in list(module.modules()):
        for name, norm in child.named_children():
            if isinstance(norm, nn.BatchNorm2d) and type(norm) not in NORMS:
                raise ValueError(
                    f"{type(norm).__name__} is no plain batch norm and cannot be frozen: use a"
                    " backbone without it, or train it (model.norm=batch, nothing of it frozen)"
                )
            if type(norm) is nn.BatchNorm2d:
                fixed = FixedBatchNorm2d(norm.num_features, norm.eps, norm.momentum).eval()
                fixed.load_state_dict(norm.state_dict())
                fixed.requires_grad_(False)
                child._modules[name] = fixed
    if not norms_only:
        module.requires_grad_(False)


def require_size(images: Tensor, image_size: Tuple[int, int], name: str) -> None:
    """Raise unless images (..., H, W) have the size that the anchors of model `name` are made for.

    Raises:
        ValueError: they have another one.
    """
    size = (images.shape[-2], images.shape[-1])
    if size != image_size:
        raise ValueError(
            f"{name} expects images of {image_size} (height, width), got {size};"
            f" letterbox them, or build it with image_size={size}"
        )


class Normalise(nn.Module):
    """RGB values 0..255 to the network's input, in the network's precision."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        scale = torch.tensor([1 / value for value in std]).view(3, 1, 1)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float, 0..255 -> the same shape, (value - mean) / std."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with TensorFlow's epsilon and momentum."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.conv: nn.Conv2d = Conv2dSame(
            in_channels, out_channels, kernel_size, stride, groups, bias
        )
        self.norm: nn.Module = batch_norm(out_channels)
        self.activation = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out

    def fold(self) -> None:
        """Put the batch norm into the convolution, in place."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fold_conv_norm(self.conv, self.norm), nn.Identity()


class SeparableConv2d(nn.Module):
    """3x3 depthwise convolution, then 1x1 with bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = Conv2dSame(in_channels, in_channels, 3, groups=in_channels)
        self.pointwise: nn.Module = Conv2dSame(in_channels, out_channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out
