"""EfficientDet's network: images in, logits and deltas for every anchor out (arXiv:1911.09070).

B images, N_l anchors of level l, C classes. It knows no loss, no anchor box and no NMS.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from torch import Tensor, nn

from detectors.backbones.efficientnet import MULTIPLIERS, EfficientNet
from detectors.layers import freeze
from detectors.models.efficientdet.bifpn import BiFPN
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.heads import CLASS_BIAS, PredictionHead

__all__ = ["EfficientDetNetwork", "build_network"]


class EfficientDetNetwork(nn.Module):
    """Backbone, feature pyramid, two heads."""

    def __init__(
        self,
        backbone: nn.Module,
        bifpn: BiFPN,
        class_head: PredictionHead,
        box_head: PredictionHead,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.bifpn = bifpn
        self.class_head = class_head
        self.box_head = box_head

    @property
    def num_blocks(self) -> int:
        """Of the backbone, for stochastic depth."""
        return int(self.backbone.num_blocks)  # type: ignore[arg-type]

    def forward(
        self, images: Tensor, kept: Optional[Tensor] = None
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """Predictions for every anchor, level by level, fine to coarse.

        Args:
            images: (B, 3, H, W), normalised.
            kept: (B, blocks of the backbone), in training with stochastic depth; None = all.

        Returns:
            class_logits: one (B, N_l, C) for each level.
            box_deltas: one (B, N_l, 4) for each level, (dx, dy, dw, dh).
        """
        features = self.pyramid(images, kept)
        # All levels of one head before the other: a pipeline enters each head once.
        return self.class_head(features), self.box_head(features)

    def pyramid(self, images: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """What both heads take: one (B, fpn channels, H_l, W_l) for each level; as `forward`."""
        features = self.backbone(images) if kept is None else self.backbone(images, kept)
        maps: List[Tensor] = self.bifpn(features)
        return maps


def build_backbone(name: str, min_level: int) -> nn.Module:
    """The feature extractor `efficientnet-b0`..`lite4`, or timm's model `timm:<name>`.

    Raises:
        ValueError: the name is neither.
    """
    if name.startswith("timm:"):
        from detectors.backbones.timm_features import TimmFeatures

        return TimmFeatures(name[len("timm:") :], min_level)
    if name not in MULTIPLIERS:
        raise ValueError(
            f"backbone must be timm:<name> or one of {sorted(MULTIPLIERS)}, got '{name}'"
        )
    return EfficientNet(name, min_level)


def build_network(config: EfficientDetConfig) -> EfficientDetNetwork:
    """The network of a configuration, randomly initialised as automl does.

    Raises:
        ValueError: no such backbone, or `config.frozen` names no module, or a batch norm by itself.
    """
    backbone = build_backbone(config.backbone, config.min_level)
    channels = config.fpn_channels
    levels = (config.min_level, config.max_level)
    head = (config.num_anchors, config.head_repeats, config.num_levels, config.activation)
    network = EfficientDetNetwork(
        backbone,
        BiFPN(
            backbone.channels,  # type: ignore[arg-type]
            channels,
            config.fpn_cells,
            levels,
            config.fusion,
            config.activation,
        ),
        PredictionHead(channels, config.num_classes, *head, bias=CLASS_BIAS),
        PredictionHead(channels, 4, *head),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = config.norm_momentum
    if config.norm == "frozen":
        freeze(network, norms_only=True)
    modules = dict(network.named_modules())
    for name in config.frozen:
        if name not in modules or not name:
            near = [child for child, _ in network.named_children()]
            raise ValueError(f"model.frozen '{name}' is no module; there are {near} and their own")
        if isinstance(modules[name], nn.BatchNorm2d):
            parent = name.rpartition(".")[0]
            raise ValueError(
                f"model.frozen '{name}' is a batch norm: name the module it is in, '{parent}', or"
                " freeze all of them with model.norm=frozen"
            )
        freeze(modules[name])
    return network
