"""Faster R-CNN for inference: pixels in, detections out.

B images of H x W pixels, R proposals, C classes, K candidates, D detections. Boxes are xyxy pixels
of the network input.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple, Union

import torch
from torch import Tensor, nn

from detectors.boxes import SCALE_CLAMP, box_area, clip_boxes, decode_boxes
from detectors.layers import Normalise, require_size
from detectors.models.faster_rcnn.box_head import from_units
from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.models.faster_rcnn.network import FasterRCNNNetwork, build_network
from detectors.models.faster_rcnn.rpn import Proposals, build_anchors
from detectors.models.faster_rcnn.training import FasterRCNNTraining
from detectors.postprocess import (
    Candidates,
    Detections,
    PostprocessConfig,
    gather_rows,
    select,
)
from poplar_ops import topk_select

__all__ = ["BoxPostprocess", "FasterRCNN", "build_faster_rcnn"]


class BoxPostprocess(nn.Module):
    """Logits and deltas of proposals to detections; no parameters.

    Args:
        image_size: pixels (height, width).
        config: settings; every class of every proposal is a candidate.
    """

    def __init__(self, image_size: Tuple[int, int], config: PostprocessConfig) -> None:
        super().__init__()
        if not config.multiclass:
            raise ValueError(
                "postprocess.multiclass must be True for Faster R-CNN: a proposal has a box for"
                " each class, and each competes in its own class"
            )
        self.image_size = image_size
        self.config = config

    def candidates(self, class_logits: Tensor, box_deltas: Tensor, proposals: Tensor) -> Candidates:
        """The best pairs of proposal and class.

        Args:
            class_logits: (B, R, C + 1), background last.
            box_deltas: (B, R, C, 4), in units.
            proposals: (B, R, 4); zero boxes are padding and score -1.

        Returns:
            K = min(top_k, R * C) candidates, best first.
        """
        scores = class_logits.float().softmax(dim=-1)[..., :-1]  # (B, R, C)
        batch, rows, num_classes = scores.shape
        is_box = (box_area(proposals) > 0)[..., None]
        scores = torch.where(is_box, scores, torch.full_like(scores, -1.0))
        pairs = scores.reshape(batch, rows * num_classes)
        best, pair = topk_select(pairs, min(self.config.top_k or pairs.shape[1], pairs.shape[1]))
        row = torch.div(pair, num_classes, rounding_mode="floor")
        deltas = gather_rows([box_deltas.reshape(batch, -1, 4)], pair).float()
        boxes = decode_boxes(from_units(deltas), gather_rows([proposals], row), SCALE_CLAMP)
        if self.config.clip_before_nms:
            boxes = clip_boxes(boxes, self.image_size)
        return Candidates(boxes, best, (pair - row * num_classes).int())

    def select(self, candidates: Candidates) -> Detections:
        """NMS over candidates; in the graph or, on the candidates it returned, on the host."""
        return select(candidates, self.config)

    def forward(self, class_logits: Tensor, box_deltas: Tensor, proposals: Tensor) -> Detections:
        """Both; shapes as `candidates`."""
        return self.select(self.candidates(class_logits, box_deltas, proposals))


class FasterRCNN(nn.Module):
    """Normalise, first stage, proposals, second stage, postprocess.

    Args:
        config: what was built.
        network: its parameters.
        postprocess: settings of the last top-k and NMS.
        nms: "device": the last NMS is part of `forward`; "none": `forward` ends with the
            candidates, and `postprocess.select` does the rest wherever it is called.
    """

    half_parts = ("backbone", "rpn")
    """Of the network: half in mixed precision on the IPU."""

    def __init__(
        self,
        config: FasterRCNNConfig,
        network: FasterRCNNNetwork,
        postprocess: PostprocessConfig,
        nms: str = "device",
    ) -> None:
        super().__init__()
        if nms not in ("device", "none"):
            raise ValueError(f"nms must be 'device' or 'none', got '{nms}'")
        self.network = network
        self.nms = nms
        self._bind(config, postprocess)

    def _bind(self, config: FasterRCNNConfig, postprocess: PostprocessConfig) -> None:
        self.config = config
        self.normalise = Normalise(config.mean, config.std)
        self.proposals = Proposals(
            build_anchors(config),
            config.image_size,
            config.rpn.pre_nms[1],
            config.rpn.post_nms[1],
            config.rpn.nms_threshold,
        )
        self.postprocess = BoxPostprocess(config.image_size, postprocess)

    def configure(
        self,
        *,
        image_size: Union[int, Tuple[int, int], None] = None,
        mean: Union[Tuple[float, float, float], None] = None,
        std: Union[Tuple[float, float, float], None] = None,
        postprocess: Union[PostprocessConfig, None] = None,
    ) -> FasterRCNN:
        """Change what surrounds the network, in place; its parameters stay.

        Args:
            image_size: pixels, one number or (height, width).
            mean: of RGB values 0..255.
            std: of RGB values 0..255.
            postprocess: settings of the last top-k and NMS.

        Returns:
            The model.

        Raises:
            ValueError: a setting is out of range.
        """
        given = {
            "image_size": (image_size, image_size) if isinstance(image_size, int) else image_size,
            "mean": mean,
            "std": std,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        dtype, device = self.normalise.mean.dtype, self.normalise.mean.device
        self._bind(
            replace(self.config, **changes),  # type: ignore[arg-type]
            postprocess or self.postprocess.config,
        )
        self.normalise.to(device, dtype)
        self.proposals.to(device)
        return self

    def predict(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, R, C + 1), box deltas (B, R, C, 4) and proposals (B, R, 4)."""
        require_size(images, self.config.image_size, self.config.name)
        features, objectness, deltas = self.network(self.normalise(images))
        proposals = self.proposals(objectness, deltas)
        return (*self.network.classify(features, proposals), proposals)

    def candidates(self, images: Tensor) -> Candidates:
        """What enters the last NMS: (B, K, 4) boxes, (B, K) scores and labels."""
        return self.postprocess.candidates(*self.predict(images))

    def forward(self, images: Tensor) -> Union[Detections, Candidates]:
        """Detect.

        Args:
            images: (B, 3, H, W) uint8 or float, RGB values 0..255; H, W as `config.image_size`.

        Returns:
            Detections: float32 boxes (B, D, 4) and scores (B, D), int32 labels (B, D) and count
            (B,); with nms="none" the candidates.

        Raises:
            ValueError: the images have another size.
        """
        candidates = self.candidates(images)
        return candidates if self.nms == "none" else self.postprocess.select(candidates)

    def for_training(self) -> FasterRCNNTraining:
        """A training module, in training mode, on the same parameters.

        The network has one mode: call `.eval()` on this module again before it is used.
        """
        training = FasterRCNNTraining(self.config, self.network)
        dtype, device = self.normalise.mean.dtype, self.normalise.mean.device
        training.normalise.to(device, dtype)
        training.proposals.to(device)
        return training.train()


def build_faster_rcnn(
    config: FasterRCNNConfig,
    postprocess: Union[PostprocessConfig, None] = None,
    nms: str = "device",
) -> FasterRCNN:
    """A detector in evaluation mode with random weights; None = the variant's postprocess."""
    network = build_network(config)
    return FasterRCNN(config, network, postprocess or config.postprocess, nms).eval()
