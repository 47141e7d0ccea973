"""Faster R-CNN for training: pictures and boxes in, a loss out.

B images of H x W pixels, G boxes after padding. The modules run in the order of a pipeline's
stages: trunk, RPN with its losses and everything up to the pooled regions, res5, box head.
"""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn

from detectors.layers import Normalise, require_size
from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.models.faster_rcnn.criterion import Truth, draw_regions, region_losses, rpn_losses
from detectors.models.faster_rcnn.network import FasterRCNNNetwork
from detectors.models.faster_rcnn.rpn import Proposals, build_anchors
from poplar_ops.runtime import poptorch

__all__ = ["LOSSES", "FasterRCNNTraining"]

LOSSES = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
"""Names of the parts of the loss, in order."""


class FasterRCNNTraining(nn.Module):
    """Normalise, both stages, four losses.

    Args:
        config: what was built.
        network: its parameters, shared with the inference module.
    """

    loss_names = LOSSES

    def __init__(self, config: FasterRCNNConfig, network: FasterRCNNNetwork) -> None:
        super().__init__()
        self.config = config
        self.normalise = Normalise(config.mean, config.std)
        self.network = network
        self.proposals = Proposals(
            build_anchors(config),
            config.image_size,
            config.rpn.pre_nms[0],
            config.rpn.post_nms[0],
            config.rpn.nms_threshold,
        )

    def forward(
        self, images: Tensor, gt_boxes: Tensor, gt_labels: Tensor, keys: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """The loss of a batch.

        Args:
            images: (B, 3, H, W) uint8 or float, RGB values 0..255.
            gt_boxes: (B, G, 4) float32, xyxy pixels.
            gt_labels: (B, G) integers; -1 with a zero box is padding, with a real box ignored.
            keys: (B,) int32; an image's samples depend on its key alone.

        Returns:
            loss: () float32, marked for PopTorch; the sum of
            losses: (4,) float32, each times its weight; `LOSSES` names them.

        Raises:
            ValueError: the images have another size than the anchors are made for.
        """
        require_size(images, self.config.image_size, self.config.name)
        truth = Truth(gt_boxes.float(), gt_labels, keys)
        features, objectness, deltas = self.network(self.normalise(images))
        anchors = self.proposals.anchors()
        first = rpn_losses(objectness, deltas, anchors, truth, self.config)
        regions = draw_regions(self.proposals(objectness, deltas), truth, self.config)
        second = region_losses(
            *self.network.classify(features, regions.boxes), regions, self.config.box_head.beta
        )
        losses = torch.stack(
            [loss * weight for loss, weight in zip(first + second, self.config.loss_weights)]
        )
        return poptorch.identity_loss(losses, reduction="sum"), losses
