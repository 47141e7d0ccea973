"""EfficientDet for training: pictures and boxes in, a loss out.

B images of H x W pixels, G boxes after padding, N anchors, N_l of level l, C classes. The modules
run in the order of a pipeline's stages: backbone, pyramid, class head, box head with the losses.
"""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn

from detectors.anchors import AnchorGrid
from detectors.layers import Normalise, require_size
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.criterion import assign_targets, box_loss, class_loss
from detectors.models.efficientdet.network import EfficientDetNetwork
from detectors.stochastic_depth import draw_blocks
from poplar_ops.runtime import poptorch

__all__ = ["LOSSES", "EfficientDetTraining"]

LOSSES = ("class", "box")
"""Names of the parts of the loss, in order."""


class EfficientDetTraining(nn.Module):
    """Normalise, network, targets, two losses.

    Args:
        config: what was built.
        network: its parameters, shared with the inference module.
        anchors: (N, 4) xyxy pixels, of `config`.
    """

    loss_names = LOSSES

    def __init__(
        self, config: EfficientDetConfig, network: EfficientDetNetwork, anchors: Tensor
    ) -> None:
        super().__init__()
        self.config = config
        self.normalise = Normalise(config.mean, config.std)
        self.network = network
        self.anchors = AnchorGrid(anchors)

    def forward(
        self, images: Tensor, gt_boxes: Tensor, gt_labels: Tensor, keys: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """The loss of a micro-batch.

        Both losses are divided by its number of positive anchors + 1, as automl's are on each core:
        a gradient accumulated over small micro-batches is not that of one large batch, since each
        of its parts is divided by a count of its own.

        Args:
            images: (B, 3, H, W) uint8 or float, RGB values 0..255.
            gt_boxes: (B, G, 4) float32, xyxy pixels.
            gt_labels: (B, G) integers; -1 with a zero box is padding, with a real box ignored.
            keys: (B,) int32; the blocks left out for an image depend on its key alone.

        Returns:
            loss: () float32, marked for PopTorch; the sum of
            losses: (2,) float32, each times its weight; `LOSSES` names them.

        Raises:
            ValueError: the images have another size than the anchors are made for.
        """
        config = self.config
        require_size(images, config.image_size, config.name)
        kept = None
        if config.survival < 1:
            kept = draw_blocks(keys, self.network.num_blocks, config.survival)
        features = self.network.pyramid(self.normalise(images), kept)
        targets = assign_targets(self.anchors(), gt_boxes.float(), gt_labels)
        count = targets.positive.float().sum() + 1
        # Each loss directly behind its head: logits need not wait for the other head.
        by_class = class_loss(self.network.class_head(features), targets, config.loss) / count
        by_box = box_loss(self.network.box_head(features), targets, config.loss) / (count * 4)
        losses = torch.stack([by_class, by_box * config.loss.box_weight])
        return poptorch.identity_loss(losses, reduction="sum"), losses
