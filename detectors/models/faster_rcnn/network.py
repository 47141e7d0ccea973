"""Faster R-CNN's network: what has parameters, and nothing else (arXiv:1506.01497).

B images, N anchors, R regions of each image, C classes. It knows no loss and no NMS: which regions
the second stage sees is decided between its two calls, differently in training and inference.
"""

from __future__ import annotations

from typing import Tuple

from torch import Tensor, nn

from detectors.backbones.resnet import ResNet
from detectors.models.faster_rcnn.box_head import BoxHead
from detectors.models.faster_rcnn.config import STRIDE, FasterRCNNConfig
from detectors.models.faster_rcnn.rpn import RPN
from poplar_ops import roi_align

__all__ = ["FasterRCNNNetwork", "build_network"]


class FasterRCNNNetwork(nn.Module):
    """C4 trunk, RPN, region pooling, res5 (the backbone's layer4), box head.

    Args:
        backbone: its forward is the trunk, of stride 16.
        rpn: first stage.
        box_head: last layers of the second stage.
        pool_size: bins along each side of a pooled region.
        sampling_ratio: samples along each side of a bin; 0 = adaptive.
        aligned: coordinates shifted by half a cell.
    """

    def __init__(
        self,
        backbone: ResNet,
        rpn: RPN,
        box_head: BoxHead,
        pool_size: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.box_head = box_head
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """The first stage.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            features: (B, channels, ceil(H / 16), ceil(W / 16)).
            objectness: (B, N) logits.
            deltas: (B, N, 4).
        """
        features = self.backbone(images)
        objectness, deltas = self.rpn(features)
        return features, objectness, deltas

    def classify(self, features: Tensor, boxes: Tensor) -> Tuple[Tensor, Tensor]:
        """The second stage.

        Args:
            features: as `forward` returned them.
            boxes: (B, R, 4) xyxy pixels; no gradient flows to them.

        Returns:
            class_logits: (B, R, C + 1), background last.
            box_deltas: (B, R, C, 4), in the units of `box_head.from_units`.
        """
        batch, num_boxes = boxes.shape[:2]
        regions = roi_align(
            features,
            boxes,
            output_size=self.pool_size,
            spatial_scale=1 / STRIDE,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )  # (B, R, channels, h, w)
        logits, deltas = self.box_head(self.backbone.layer4(regions.flatten(0, 1)))
        return (
            logits.reshape(batch, num_boxes, -1),
            deltas.reshape(batch, num_boxes, -1, 4),
        )


def build_network(config: FasterRCNNConfig) -> FasterRCNNNetwork:
    """The network of a configuration, randomly initialised."""
    head = config.box_head
    backbone = ResNet(
        config.depth, config.norm, config.frozen_stages, config.stride_in_1x1, head.res5_stride
    )
    channels = config.rpn.channels or backbone.channels
    return FasterRCNNNetwork(
        backbone,
        RPN(backbone.channels, channels, config.num_anchors, config.rpn.objectness),
        BoxHead(backbone.res5_channels, config.num_classes),
        head.pool_size,
        head.sampling_ratio,
        head.aligned,
    )
