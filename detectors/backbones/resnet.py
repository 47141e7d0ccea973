"""ResNet-18, 34, 50 and 101 (arXiv:1512.03385) with torchvision's parameter names.

B images. A Faster R-CNN "C4" runs `conv1`..`layer3` on pictures (stride 16) and `layer4`, its
"res5", on each pooled region; both belong to one `ResNet`, as in an ImageNet checkpoint.
"""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Tuple, Type, Union

import torch.nn.functional as F
from torch import Tensor, nn

from detectors.folding import fold_conv_norm
from detectors.layers import FrozenBatchNorm2d

__all__ = ["DEPTHS", "BasicBlock", "Bottleneck", "ResNet"]

Norm = Callable[[int], nn.Module]


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution with symmetric padding and no bias."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )


class Block(nn.Module):
    """Convolutions, each with its norm, beside a shortcut."""

    downsample: nn.Module

    def shortcut(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
        """The identity, or a projection where the shape changes."""
        if stride == 1 and in_channels == out_channels:
            return nn.Identity()
        return nn.Sequential(conv(in_channels, out_channels, 1, stride), norm(out_channels))

    def fold(self) -> None:
        """Put the norms into the convolutions, in place."""
        for index in (1, 2, 3):
            fold_pair(self, f"conv{index}", f"bn{index}")
        fold_pair(self.downsample, "0", "1")


class BasicBlock(Block):
    """Two 3x3 convolutions; the stride is in the first, wherever a bottleneck has it."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, stride_in_1x1: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = norm(width)
        self.downsample = self.shortcut(in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class Bottleneck(Block):
    """1x1 down, 3x3, 1x1 up; torchvision strides the 3x3, Caffe and MSRA the first 1x1."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, stride_in_1x1: bool, norm: Norm
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = conv(in_channels, width, 1, first)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, second)
        self.bn2 = norm(width)
        self.conv3 = conv(width, width * 4, 1)
        self.bn3 = norm(width * 4)
        self.downsample = self.shortcut(in_channels, width * 4, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 4 * width, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x))


class Depth(NamedTuple):
    """One of the family."""

    block: Union[Type[BasicBlock], Type[Bottleneck]]
    repeats: Tuple[int, int, int, int]
    """Blocks of layer1..layer4."""


DEPTHS: Dict[int, Depth] = {
    18: Depth(BasicBlock, (2, 2, 2, 2)),
    34: Depth(BasicBlock, (3, 4, 6, 3)),
    50: Depth(Bottleneck, (3, 4, 6, 3)),
    101: Depth(Bottleneck, (3, 4, 23, 3)),
}
"""Layers with weights -> blocks."""


class ResNet(nn.Module):
    """Features of stride 16 from pictures; `layer4` is there for regions.

    Args:
        depth: 18, 34, 50 or 101.
        norm: "frozen" (`FrozenBatchNorm2d`) or "batch" (trained, in all but the frozen stages).
        frozen_stages: 0 = none, 1 = the stem, 2 = and layer1 (detectron2's FREEZE_AT), up to 4:
            their weights take no gradient.
        stride_in_1x1: where a bottleneck has its stride; fixed by the origin of the weights.
        res5_stride: of layer4, 2 or 1.
    """

    def __init__(
        self,
        depth: int = 50,
        norm: str = "frozen",
        frozen_stages: int = 0,
        stride_in_1x1: bool = False,
        res5_stride: int = 2,
    ) -> None:
        super().__init__()
        block, repeats = DEPTHS[depth]
        norms: List[Norm] = [
            FrozenBatchNorm2d if norm == "frozen" or stage < frozen_stages else nn.BatchNorm2d
            for stage in range(5)
        ]

        def layer(number: int, stride: int) -> nn.Sequential:
            width = 64 * 2 ** (number - 1)
            inside = width * block.expansion
            channels = 64 if number == 1 else inside // 2
            shape = (stride_in_1x1, norms[number])
            blocks: List[nn.Module] = [block(channels, width, stride, *shape)]
            for _ in range(repeats[number - 1] - 1):
                blocks.append(block(inside, width, 1, *shape))
            return nn.Sequential(*blocks)

        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norms[0](64)
        self.layer1 = layer(1, 1)
        self.layer2 = layer(2, 2)
        self.layer3 = layer(3, 2)
        self.layer4 = layer(4, res5_stride)
        self.channels = 256 * block.expansion
        """Of the features."""
        self.res5_channels = 512 * block.expansion
        """Of what layer4 returns."""
        self.reset_parameters()
        self.freeze(frozen_stages)

    def reset_parameters(self) -> None:
        """Normal weights of variance 2 / fan-out, as torchvision."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def freeze(self, stages: int) -> None:
        """Stop gradients of the first stages' weights."""
        names = ["conv1", "layer1", "layer2", "layer3", "layer4"][:stages]
        for name in names:
            for parameter in self.get_submodule(name).parameters():
                parameter.requires_grad = False

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> (B, channels, ceil(H / 16), ceil(W / 16))."""
        x = images.to(self.conv1.weight.dtype)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        out: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return out

    def fold(self) -> None:
        """Put the stem's norm into its convolution, in place."""
        fold_pair(self, "conv1", "bn1")


def fold_pair(module: nn.Module, conv_name: str, norm_name: str) -> None:
    """Replace a convolution and the norm after it by one convolution, where there are both."""
    children = dict(module.named_children())
    first, norm = children.get(conv_name), children.get(norm_name)
    if isinstance(first, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)):
        setattr(module, conv_name, fold_conv_norm(first, norm))
        setattr(module, norm_name, nn.Identity())
