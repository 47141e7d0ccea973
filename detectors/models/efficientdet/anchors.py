"""The anchors of an EfficientDet, in the order of its head outputs.

N anchors: level fine to coarse, row, column, octave, aspect.
"""

from __future__ import annotations

from torch import Tensor

from detectors.anchors import pyramid_anchors
from detectors.models.efficientdet.config import EfficientDetConfig

__all__ = ["build_anchors"]


def build_anchors(config: EfficientDetConfig) -> Tensor:
    """What training matches boxes with and inference decodes from.

    Returns:
        (N, 4) float32, xyxy pixels of the network input, not clipped to it.
    """
    return pyramid_anchors(
        config.image_size,
        range(config.min_level, config.max_level + 1),
        config.anchor_scale,
        config.anchor_octaves,
        config.anchor_factors,
    )
