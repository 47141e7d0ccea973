"""Class and box heads: all levels share convolutions, each has its norms (arXiv:1911.09070).

B images, C channels, A anchors per cell, N_l = H * W * A anchors of level l, in the order row,
column, anchor.
"""

from __future__ import annotations

import math
from typing import List, Sequence

import torch
from torch import Tensor, nn

from detectors.folding import fold_conv_norm
from detectors.layers import SeparableConv2d, batch_norm, build_activation

__all__ = ["CLASS_BIAS", "PredictionHead"]

CLASS_BIAS = -math.log(99)  # every class starts at probability 0.01 (focal loss, arXiv:1708.02002)


class PredictionHead(nn.Module):
    """Repeated separable convolutions, then one that predicts `outputs` numbers for each anchor.

    Args:
        channels: of every level.
        outputs: numbers for each anchor: classes, or 4.
        num_anchors: A.
        num_repeats: convolutions before the predicting one.
        num_levels: levels that share them.
        activation: "swish" or "relu6".
        bias: initial bias of every output.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        num_anchors: int,
        num_repeats: int,
        num_levels: int,
        activation: str = "swish",
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.convs = nn.ModuleList(SeparableConv2d(channels, channels) for _ in range(num_repeats))
        self.norms = nn.ModuleList(
            nn.ModuleList(batch_norm(channels) for _ in range(num_levels))
            for _ in range(num_repeats)
        )
        self.activation = build_activation(activation)
        self.predict = SeparableConv2d(channels, num_anchors * outputs)
        self.reset_parameters(bias)

    def reset_parameters(self, bias: float) -> None:
        """Truncated normal weights of variance 1 / fan-in, as automl.

        TensorFlow lays a depthwise kernel out as (height, width, channels, 1), and counts all
        channels as its inputs: predictions begin closer to their biases than they would otherwise.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel() * module.groups
                # 0.8796 is the standard deviation of a unit normal cut at two of its own.
                std = math.sqrt(1 / fan_in) / 0.87962566
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert isinstance(self.predict.pointwise.bias, Tensor)
        torch.nn.init.constant_(self.predict.pointwise.bias, bias)

    def forward(self, features: Sequence[Tensor]) -> List[Tensor]:
        """One (B, C, H, W) for each level -> one (B, N_l, outputs) for each level."""
        dtype = self.predict.depthwise.weight.dtype  # heads may be float32 on half features
        maps = [x.to(dtype) for x in features]
        # All levels of one convolution before the next: a pipeline may be cut between them.
        for conv, norms in zip(self.convs, self.norms):
            maps = [
                self.activation(norm(conv(x)))
                for norm, x in zip(norms, maps)  # type: ignore[call-overload]
            ]
        return [self.flatten(self.predict(x)) for x in maps]

    def flatten(self, x: Tensor) -> Tensor:
        """(B, A * outputs, H, W) -> (B, N_l, outputs); in channels-last memory a view."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.outputs)

    def fold(self) -> None:
        """Replace each level's batch norm by a pointwise convolution that includes it, in place."""
        for conv, norms in zip(self.convs, self.norms):
            assert isinstance(conv, SeparableConv2d)
            assert isinstance(norms, nn.ModuleList)
            pointwise = conv.pointwise
            if not isinstance(pointwise, nn.Conv2d):
                continue
            for level, norm in enumerate(norms):
                assert isinstance(norm, nn.BatchNorm2d)
                norms[level] = fold_conv_norm(pointwise, norm)
            conv.pointwise = nn.Identity()
