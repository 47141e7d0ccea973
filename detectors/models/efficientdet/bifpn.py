"""Bidirectional feature pyramid with weighted fusion (EfficientDet, arXiv:1911.09070, sec. 3).

B images, C channels. Levels run fine to coarse; level l has ceil(H / 2**l) x ceil(W / 2**l) cells.
"""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.folding import fold_conv_norm
from detectors.layers import ConvNorm, SeparableConv2d, batch_norm, build_activation, max_pool_same

__all__ = ["BiFPN", "Node", "bifpn_nodes"]

FUSION_EPS = 1e-4  # keeps the weights finite when all of them are negative


class Node(NamedTuple):
    """One fusion: the level it belongs to and the feature maps it takes."""

    level: int
    inputs: Tuple[int, ...]
    """Numbers of feature maps: the cell's inputs from 0, fine to coarse, then nodes in order."""


def bifpn_nodes(min_level: int, max_level: int) -> Tuple[Node, ...]:
    """The nodes of one cell, in order: top-down to the finest level, then bottom-up.

    A top-down node takes its level's input and the level above; a bottom-up node takes everything
    its level has so far and the level below.
    """
    ids: Dict[int, List[int]] = {
        level: [level - min_level] for level in range(min_level, max_level + 1)
    }
    nodes: List[Node] = []

    def add(level: int, inputs: List[int]) -> None:
        nodes.append(Node(level, tuple(inputs)))
        ids[level].append(max_level - min_level + len(nodes))

    for level in range(max_level - 1, min_level - 1, -1):
        add(level, [ids[level][-1], ids[level + 1][-1]])
    for level in range(min_level + 1, max_level + 1):
        add(level, ids[level] + [ids[level - 1][-1]])
    return tuple(nodes)


def resample(x: Tensor, size: Tuple[int, int]) -> Tensor:
    """Bring a map to another size: max-pool down, nearest neighbour up.

    Args:
        x: (B, C, H, W).
        size: (height, width) in cells.

    Returns:
        (B, C, *size).

    Raises:
        ValueError: one axis would grow and the other shrink.
    """
    source = (x.shape[-2], x.shape[-1])
    if source == size:
        return x
    if source[0] >= size[0] and source[1] >= size[1]:
        stride = (-(-source[0] // size[0]), -(-source[1] // size[1]))
        kernel = (stride[0] + int(stride[0] > 1), stride[1] + int(stride[1] > 1))
        return max_pool_same(x, kernel, stride)
    if source[0] <= size[0] and source[1] <= size[1]:
        return F.interpolate(x, size=size, mode="nearest")
    raise ValueError(f"cannot resample {source} to {size} cells: one axis grows, the other shrinks")


class SumFusion(nn.Module):
    """Plain sum."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of one shape -> their sum."""
        out = inputs[0] + inputs[1]
        for x in inputs[2:]:
            out = out + x
        return out


def weighted_sum(weights: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Sum of weights[i] * inputs[i]; weights (n,), inputs n maps of one shape."""
    scalars = weights.unbind()
    out = inputs[0] * scalars[0]
    for scalar, x in zip(scalars[1:], inputs[1:]):
        out = torch.addcmul(out, x, scalar)
    return out


class ConstantFusion(nn.Module):
    """Weighted sum with given weights: what the learned fusions become in inference."""

    edge_weights: Tensor

    def __init__(self, edge_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("edge_weights", edge_weights)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of one shape -> their weighted sum."""
        return weighted_sum(self.edge_weights, inputs)


class FastFusion(nn.Module):
    """Fast normalised fusion: relu(w) / (sum of relu(w) + eps) (eq. 3)."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.edge_weights = nn.Parameter(torch.ones(num_inputs))

    def normalised(self) -> Tensor:
        """(n,) weights of the sum."""
        positive = self.edge_weights.relu()
        return positive / (positive.sum() + FUSION_EPS)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of one shape -> their weighted sum."""
        return weighted_sum(self.normalised(), inputs)


class AttentionFusion(FastFusion):
    """Softmax fusion (the paper's slower alternative)."""

    def normalised(self) -> Tensor:
        """(n,) weights of the sum."""
        return self.edge_weights.softmax(dim=0)


FUSIONS: Dict[str, Callable[[int], nn.Module]] = {
    "fastattn": FastFusion,
    "attn": AttentionFusion,
    "sum": SumFusion,
}


class FusionNode(nn.Module):
    """Resample the inputs, fuse them, then swish, separable convolution, batch norm."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, fusion: str, activation: str
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(
            nn.Identity() if width == channels else ConvNorm(width, channels, 1, bias=True)
            for width in in_channels
        )
        self.fusion: nn.Module = FUSIONS[fusion](len(in_channels))
        self.activation = build_activation(activation)
        self.conv = SeparableConv2d(channels, channels)
        self.norm: nn.Module = batch_norm(channels)

    def forward(self, inputs: Sequence[Tensor], size: Tuple[int, int]) -> Tensor:
        """Maps of any size -> (B, C, *size)."""
        resampled = [resample(project(x), size) for project, x in zip(self.inputs, inputs)]
        out: Tensor = self.norm(self.conv(self.activation(self.fusion(resampled))))
        return out

    def fold(self) -> None:
        """Put the batch norm into the pointwise convolution and normalise the weights, in place."""
        if isinstance(self.norm, nn.BatchNorm2d):
            assert isinstance(self.conv.pointwise, nn.Conv2d)
            self.conv.pointwise = fold_conv_norm(self.conv.pointwise, self.norm)
            self.norm = nn.Identity()
        if isinstance(self.fusion, FastFusion):
            self.fusion = ConstantFusion(self.fusion.normalised().detach())


class BiFPNCell(nn.Module):
    """One pass down and up the pyramid."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        levels: Tuple[int, int],
        fusion: str,
        activation: str,
    ) -> None:
        super().__init__()
        self.min_level = levels[0]
        self.graph = bifpn_nodes(*levels)
        widths = list(in_channels) + [channels] * len(self.graph)
        self.nodes = nn.ModuleList(
            FusionNode([widths[index] for index in node.inputs], channels, fusion, activation)
            for node in self.graph
        )

    def forward(self, features: Sequence[Tensor]) -> List[Tensor]:
        """One map for each level -> one (B, C, H, W) for each level, of the same sizes."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in features]
        maps = list(features)
        last = list(features)
        for node, module in zip(self.graph, self.nodes):
            level = node.level - self.min_level
            last[level] = module([maps[index] for index in node.inputs], sizes[level])
            maps.append(last[level])
        return last


class ExtraLevel(nn.Module):
    """The next coarser level: 1x1 convolution and norm where widths differ, then 3x3 max-pool."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project: nn.Module = nn.Identity()
        if in_channels != channels:
            self.project = ConvNorm(in_channels, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        return max_pool_same(self.project(x), (3, 3), (2, 2))


class BiFPN(nn.Module):
    """The levels above the backbone's, then repeated cells.

    Args:
        in_channels: channels of the backbone's maps, fine to coarse.
        channels: channels of every map after the first cell.
        num_cells: repeats.
        levels: (finest, coarsest).
        fusion: "fastattn", "attn" or "sum".
        activation: "swish" or "relu6".
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_cells: int,
        levels: Tuple[int, int],
        fusion: str = "fastattn",
        activation: str = "swish",
    ) -> None:
        super().__init__()
        num_levels = levels[1] - levels[0] + 1
        widths = list(in_channels)
        self.extra_levels = nn.ModuleList()
        while len(widths) < num_levels:
            self.extra_levels.append(ExtraLevel(widths[-1], channels))
            widths.append(channels)
        self.cells = nn.ModuleList()
        for _ in range(num_cells):
            self.cells.append(BiFPNCell(widths, channels, levels, fusion, activation))
            widths = [channels] * num_levels
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot weights, zero biases, as automl."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> List[Tensor]:
        """The backbone's maps, fine to coarse -> one (B, C, H, W) for each level."""
        maps = list(features)
        for extra in self.extra_levels:
            maps.append(extra(maps[-1]))
        for cell in self.cells:
            maps = cell(maps)
        return maps
