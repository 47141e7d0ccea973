"""EfficientNet features (arXiv:1905.11946, table 1; padding, rounding and taps as automl).

B images, H x W input pixels. Level l is a map of ceil(H / 2**l) x ceil(W / 2**l) cells. The
classifier is not built.
"""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

from torch import Tensor, nn

from detectors.layers import Conv2dSame, ConvNorm, build_activation

__all__ = ["EfficientNet", "stage_repeats"]


class Stage(NamedTuple):
    """One row of the base table (B0)."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    """Channels inside a block / channels entering it."""
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)

TAPS = {1: 0, 2: 1, 3: 2, 4: 4, 5: 6}
"""Level -> the last stage at its stride."""

MULTIPLIERS: Dict[str, Tuple[float, float]] = {
    "efficientnet-b0": (1.0, 1.0),
    "efficientnet-b1": (1.0, 1.1),
    "efficientnet-b2": (1.1, 1.2),
    "efficientnet-b3": (1.2, 1.4),
    "efficientnet-b4": (1.4, 1.8),
    "efficientnet-b5": (1.6, 2.2),
    "efficientnet-b6": (1.8, 2.6),
    "efficientnet-b7": (2.0, 3.1),
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
}
"""Name -> (width, depth)."""

SQUEEZE_RATIO = 0.25  # of the channels that enter the block, not of those inside it


def round_channels(channels: int, width: float) -> int:
    """Scaled channels to the nearest multiple of 8, never more than 10 % below."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def stage_repeats(name: str) -> Tuple[int, ...]:
    """Blocks of each stage of B0-B7 or lite0-lite4; the end stages of the lite ones never grow."""
    depth = MULTIPLIERS[name][1]
    scaled = [math.ceil(depth * stage.repeats) for stage in STAGES]
    if "lite" in name:
        scaled[0], scaled[-1] = STAGES[0].repeats, STAGES[-1].repeats
    return tuple(scaled)


class SqueezeExcite(nn.Module):
    """Channel gates from the mean of the map (arXiv:1709.01507)."""

    def __init__(self, channels: int, reduced: int, activation: str) -> None:
        super().__init__()
        self.reduce = Conv2dSame(channels, reduced, 1, bias=True)
        self.activation = build_activation(activation)
        self.expand = Conv2dSame(reduced, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        mean = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        gate: Tensor = self.expand(self.activation(self.reduce(mean))).sigmoid()
        return x * gate


class InvertedResidual(nn.Module):
    """Expand, depthwise, gate, project; plus the input where the shape allows (MBConv)."""

    def __init__(
        self, in_channels: int, out_channels: int, stage: Stage, stride: int, lite: bool
    ) -> None:
        super().__init__()
        activation = "relu6" if lite else "swish"
        inside = in_channels * stage.expand
        reduced = max(1, int(in_channels * SQUEEZE_RATIO))
        self.expand: nn.Module = nn.Identity()
        if stage.expand != 1:
            self.expand = ConvNorm(in_channels, inside, 1, activation=activation)
        self.depthwise = ConvNorm(
            inside, inside, stage.kernel, stride, groups=inside, activation=activation
        )
        self.squeeze: nn.Module = nn.Identity()
        if not lite:
            self.squeeze = SqueezeExcite(inside, reduced, activation)
        self.project = ConvNorm(inside, out_channels, 1)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor, kept: Optional[Tensor] = None) -> Tensor:
        """One block.

        Args:
            x: (B, in, H, W).
            kept: (B,), what the residual branch of each image is multiplied by; None = 1.

        Returns:
            (B, out, ceil(H / stride), ceil(W / stride)).
        """
        out: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        if not self.is_residual:
            return out
        if kept is not None:
            out = out * kept.to(out.dtype).view(-1, 1, 1, 1)
        return out + x


class BlockStage(nn.Sequential):
    """Blocks of one stage, one after the other."""

    def forward(self, input: Tensor, kept: Optional[Tensor] = None) -> Tensor:
        """As the blocks'; `kept` is (B, blocks)."""
        x = input
        for number, block in enumerate(self):
            x = block(x, None if kept is None else kept[:, number])
        return x


class EfficientNet(nn.Module):
    """B0-B7 and lite0-lite4: feature maps of the levels `min_level`..5."""

    def __init__(self, name: str, min_level: int = 3) -> None:
        super().__init__()
        width = MULTIPLIERS[name][0]
        lite = "lite" in name  # no gates, relu6, and a stem that is not scaled
        channels = 32 if lite else round_channels(32, width)
        self.stem = ConvNorm(3, channels, 3, stride=2, activation="relu6" if lite else "swish")
        self.stages = nn.ModuleList()
        for stage, repeats in zip(STAGES, stage_repeats(name)):
            blocks: List[nn.Module] = []
            for repeat in range(repeats):
                out_channels = round_channels(stage.channels, width)
                stride = stage.stride if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, out_channels, stage, stride, lite))
                channels = out_channels
            self.stages.append(BlockStage(*blocks))
        self.num_blocks = sum(stage_repeats(name))
        self.taps = tuple(TAPS[level] for level in range(min_level, 6))
        self.channels = tuple(round_channels(STAGES[tap].channels, width) for tap in self.taps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of variance 2 / fan-out, zero biases, as automl.

        A depthwise kernel has one output for each channel that it takes: its fan-out is its area.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                outputs = module.out_channels // module.groups
                fan_out = module.kernel_size[0] * module.kernel_size[1] * outputs
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """Feature maps, fine to coarse.

        Args:
            images: (B, 3, H, W), normalised.
            kept: (B, `num_blocks`), what each block's residual branch is multiplied by: 0 where it
                is dropped (`detectors.stochastic_depth`); None = 1.

        Returns:
            One (B, channels, ceil(H / 2**l), ceil(W / 2**l)) for each level.
        """
        features: List[Tensor] = []
        x = self.stem(images.to(self.stem.conv.weight.dtype))
        first = 0
        for index, stage in enumerate(self.stages):
            last = first + len(stage)  # type: ignore[arg-type]  # a BlockStage
            x = stage(x, None if kept is None else kept[:, first:last])
            first = last
            if index in self.taps:
                features.append(x)
        return features
