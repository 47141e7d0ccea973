"""Region proposals: score anchors, refine them, keep the best (arXiv:1506.01497, sec. 3.1).

B images, A anchors per cell, N = H * W * A anchors in the order row, column, anchor, K kept
proposals. Boxes are xyxy pixels.
"""

from __future__ import annotations

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.anchors import AnchorGrid, exact_cell, grid_anchors, level_size, rounded_cell
from detectors.boxes import SCALE_CLAMP, box_area, clip_boxes, decode_boxes
from detectors.models.faster_rcnn.config import STRIDE, FasterRCNNConfig
from detectors.postprocess import gather_rows
from poplar_ops import nms, topk_select

__all__ = ["RPN", "Proposals", "build_anchors"]

LEVEL = 4  # of the pyramid that the features would be: stride 2**4
LOWEST = -torch.finfo(torch.float32).max


class RPN(nn.Module):
    """A 3x3 convolution, then two 1x1: objectness and deltas of every anchor.

    Args:
        in_channels: of the features.
        channels: of the 3x3 convolution.
        num_anchors: A.
        objectness: "sigmoid", or "softmax" with two outputs for each anchor, background first.
    """

    def __init__(self, in_channels: int, channels: int, num_anchors: int, objectness: str) -> None:
        super().__init__()
        outputs = 2 if objectness == "softmax" else 1
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, num_anchors * outputs, 1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * 4, 1)
        self.num_anchors = num_anchors
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        """Predict for every anchor.

        Args:
            features: (B, C, H, W).

        Returns:
            objectness: (B, N) float32 logits. Two outputs become one, their difference, whose
                sigmoid is the softmax's probability of an object.
            deltas: (B, N, 4) float32.
        """
        x = F.relu(self.conv(features.to(self.conv.weight.dtype)))
        objectness = self.objectness_logits(x).float()
        if objectness.shape[1] != self.num_anchors:
            objectness = objectness[:, self.num_anchors :] - objectness[:, : self.num_anchors]
        deltas = self.anchor_deltas(x).float().permute(0, 2, 3, 1)  # (B, H, W, A * 4)
        batch = features.shape[0]
        return objectness.permute(0, 2, 3, 1).reshape(batch, -1), deltas.reshape(batch, -1, 4)


def build_anchors(config: FasterRCNNConfig) -> Tensor:
    """All anchors of an input of `config.image_size`: (N, 4)."""
    cell = rounded_cell if config.anchors.version == "v1" else exact_cell
    cells = level_size(config.image_size, LEVEL)
    return grid_anchors(cell(config.anchors.sizes, config.anchors.ratios), cells, STRIDE)


class Proposals(nn.Module):
    """The RPN's outputs to a fixed number of boxes; no parameters, no gradient.

    Args:
        anchors: (N, 4).
        image_size: pixels (height, width).
        pre_nms: anchors that enter NMS.
        post_nms: K.
        nms_threshold: IoU over which the worse of two goes.
    """

    def __init__(
        self,
        anchors: Tensor,
        image_size: Tuple[int, int],
        pre_nms: int,
        post_nms: int,
        nms_threshold: float,
    ) -> None:
        super().__init__()
        self.anchors = AnchorGrid(anchors)
        self.image_size = image_size
        self.pre_nms = min(pre_nms, len(anchors))
        self.post_nms = post_nms
        self.nms_threshold = nms_threshold

    def forward(self, objectness: Tensor, deltas: Tensor) -> Tensor:
        """Decode the best anchors, clip, drop what has no area, keep the best of each heap.

        Args:
            objectness: (B, N) float32 logits.
            deltas: (B, N, 4) float32.

        Returns:
            (B, K, 4), best first; zeros where fewer than K are left.
        """
        logits, index = topk_select(objectness.detach(), self.pre_nms)
        anchors = self.anchors().index_select(0, index.reshape(-1)).reshape(*index.shape, 4)
        chosen = gather_rows([deltas.detach()], index)
        boxes = clip_boxes(decode_boxes(chosen, anchors, SCALE_CLAMP), self.image_size)
        logits = torch.where(box_area(boxes) > 0, logits, torch.full_like(logits, LOWEST))
        kept = nms(
            logits,
            boxes,
            iou_threshold=self.nms_threshold,
            score_threshold=LOWEST,
            max_detections=self.post_nms,
        )
        return kept.boxes
