"""Which NMS an evaluation ends with: hard, soft, or one beside the other from the same candidates.

B images, D detections. EfficientDet is judged as AutoML judges it: the best 5000 pairs of anchor
and class, NMS within each class, scores over 0.001, 100 detections. Soft: a score decays by
exp(-IoU**2 / 0.5). AutoML has both this formula in numpy and TensorFlow's operator, which takes
half of its sigma and is handed half of 0.5: the same decay. What differs from its numpy version is
that this adds no pixel to the sides of boxes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

from torch import Tensor, nn

from detectors.commands.train.model import EVALUATION
from detectors.models.efficientdet.inference import EfficientDet
from detectors.postprocess import Detections, PostprocessConfig, select
from detectors.weights.family import Detector

__all__ = ["SIGMAS", "SeveralNms", "evaluation_postprocess", "split_detections"]

SIGMAS: Dict[str, float] = {"hard": 0.0, "soft": 0.5}
"""Name of an NMS, as `evaluate.nms` has it -> sigma of its decay; 0 drops what overlaps."""
PARTS = len(Detections._fields)


def evaluation_postprocess(model: Detector, nms: str) -> PostprocessConfig:
    """How a model's outputs become the detections that are judged.

    Args:
        model: an EfficientDet by AutoML's settings, a Faster R-CNN by its own.
        nms: a key of `SIGMAS`.
    """
    own = EVALUATION if isinstance(model, EfficientDet) else model.postprocess.config
    return replace(own, sigma=SIGMAS[nms])


class SeveralNms(nn.Module):
    """A detector whose candidates go through one NMS after another: one pass of the network.

    Args:
        model: the detector; the candidates are those of its own postprocessing.
        settings: of each NMS.
    """

    def __init__(self, model: Detector, settings: Sequence[PostprocessConfig]) -> None:
        super().__init__()
        self.model = model
        self.settings = tuple(settings)

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> boxes, scores, labels and count of each NMS in turn, flat."""
        candidates = self.model.candidates(images)
        return tuple(part for config in self.settings for part in select(candidates, config))


def split_detections(outputs: Sequence[Tensor], count: int) -> List[Detections]:
    """The detections of each NMS, of the first `count` images."""
    parts = [part[:count] for part in outputs]
    return [Detections(*parts[at : at + PARTS]) for at in range(0, len(parts), PARTS)]
