"""The family: EfficientDet D0-D7x and lite0-lite4 (arXiv:1911.09070, table 1, and automl)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Dict, Tuple, Union

from detectors.anchors import ASPECTS
from detectors.layers import BN_MOMENTUM

__all__ = ["CONFIGS", "AnchorAspects", "AnchorScale", "EfficientDetConfig", "LossConfig"]

AnchorScale = Union[float, Tuple[float, ...]]
AnchorAspects = Union[str, Tuple[Tuple[float, float], ...]]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
SURVIVAL = 0.8  # of automl's EfficientNets but B0, the lite ones included


@dataclass(frozen=True)
class LossConfig:
    """Of training; the defaults are automl's."""

    alpha: float = 0.25
    """Focal loss: weight of an anchor's own class; others have 1 - alpha."""
    gamma: float = 1.5
    """Focal loss: how much less counts what is known already."""
    label_smoothing: float = 0.0
    """Targets are s / 2 and 1 - s / 2."""
    delta: float = 0.1
    """Huber loss: linear beyond this difference of deltas."""
    box_weight: float = 50.0
    """The box loss times this."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"loss.alpha must be 0..1, got {self.alpha}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"loss.label_smoothing must be 0 <= s < 1, got {self.label_smoothing}")
        if self.gamma < 0 or self.delta <= 0 or self.box_weight < 0:
            raise ValueError(
                "loss.gamma and loss.box_weight must be 0 or more and loss.delta over 0, got"
                f" {self.gamma}, {self.box_weight} and {self.delta}"
            )


@dataclass(frozen=True)
class EfficientDetConfig:
    """One detector."""

    name: str
    """For reports and file names."""
    image_size: Tuple[int, int]
    """Pixels of the network input, (height, width)."""
    backbone: str
    """`efficientnet-b0`..`efficientnet-b7`, `efficientnet-lite0`..`lite4`, or `timm:<name>`."""
    fpn_channels: int
    """Channels of every pyramid level."""
    fpn_cells: int
    """Repeats of the BiFPN cell."""
    head_repeats: int
    """Convolutions in each head before the predicting one."""
    fusion: str = "fastattn"
    """How a node adds its inputs: `fastattn`, `attn` or `sum`."""
    anchor_scale: AnchorScale = 4.0
    """Side of a level's smallest square anchor, in strides: one number, or one for each level."""
    min_level: int = 3
    """Finest level; its stride is 2**level pixels."""
    max_level: int = 7
    """Coarsest level."""
    num_classes: int = 90
    """Class outputs; COCO's ids 1..90 are labels 0..89, ten of them unused."""
    anchor_octaves: int = 3
    """Anchor sizes per octave."""
    anchor_aspects: AnchorAspects = "exact"
    """Square, wide and tall anchors of 2:1, `exact` (root of 2, as automl) or `rounded` (1.4, as
    effdet); or (width, height) factors, as many pairs as there are to be shapes."""
    activation: str = "swish"
    """`swish`, or `relu6` for the lite models."""
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from RGB values 0..255."""
    std: Tuple[float, float, float] = IMAGENET_STD
    """What the difference is divided by."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Of training."""
    survival: float = 1.0
    """Stochastic depth in training: probability that the deepest block is not left out."""
    norm: str = "batch"
    """Batch norms in training: `batch`, or `frozen` as they are."""
    norm_momentum: float = BN_MOMENTUM
    """Share of a micro-batch's statistics in the running ones; 0.01, automl's, takes hundreds of
    steps to follow the weights, and a detector evaluated before that finds nothing.
    """
    frozen: Tuple[str, ...] = ()
    """Modules of the network that are not trained, such as `backbone`."""

    def __post_init__(self) -> None:
        if min(self.image_size) < 1:
            raise ValueError(f"image_size must be positive pixels, got {self.image_size}")
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.fusion not in ("fastattn", "attn", "sum"):
            raise ValueError(f"fusion must be fastattn, attn or sum, got '{self.fusion}'")
        if self.activation not in ("swish", "relu6"):
            raise ValueError(f"activation must be swish or relu6, got '{self.activation}'")
        if not 1 <= self.min_level <= 5 <= self.max_level:
            raise ValueError(
                f"levels must include the backbone's last, 5, and start at 1 or later,"
                f" got {self.min_level}..{self.max_level}"
            )
        if not 0 < self.survival <= 1:
            raise ValueError(f"survival must be over 0, up to 1, got {self.survival}")
        if self.survival < 1 and self.backbone.startswith("timm:"):
            raise ValueError(f"stochastic depth is not for {self.backbone}: set survival to 1")
        if self.norm not in ("batch", "frozen"):
            raise ValueError(f"norm must be batch or frozen, got '{self.norm}'")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum must be over 0, up to 1, got {self.norm_momentum}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        require_anchors(self)

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return self.max_level - self.min_level + 1

    @property
    def num_anchors(self) -> int:
        """Anchors on each cell."""
        return self.anchor_octaves * len(self.anchor_factors)

    @property
    def anchor_factors(self) -> Tuple[Tuple[float, float], ...]:
        """(width, height) of each shape of anchor, in base sizes."""
        aspects = self.anchor_aspects
        return ASPECTS[aspects] if isinstance(aspects, str) else aspects


def require_anchors(config: EfficientDetConfig) -> None:
    """Raise for settings of anchors that are out of range."""
    scale, aspects, levels = config.anchor_scale, config.anchor_aspects, config.num_levels
    scales = scale if isinstance(scale, tuple) else (scale,) * levels
    if len(scales) != levels or not all(_positive(value) for value in scales):
        raise ValueError(
            f"anchor_scale must be a number > 0, or one for each of the {levels} levels"
            f" {config.min_level}..{config.max_level}, got {scale}"
        )
    if config.anchor_octaves < 1:
        raise ValueError(f"anchor_octaves must be at least 1, got {config.anchor_octaves}")
    if isinstance(aspects, str) and aspects not in ASPECTS:
        raise ValueError(
            "anchor_aspects must be exact or rounded, or pairs of (width, height) factors,"
            f" got '{aspects}'"
        )
    if not config.anchor_factors or not all(
        isinstance(pair, tuple) and len(pair) == 2 and all(_positive(side) for side in pair)
        for pair in config.anchor_factors
    ):
        raise ValueError(
            "anchor_aspects must be exact or rounded, or pairs of (width, height) factors > 0"
            f" such as ((1.0, 1.0), (1.4, 0.7)), got {aspects}"
        )


def _positive(value: object) -> bool:
    """Whether this is a number over zero, and finite."""
    return isinstance(value, (int, float)) and 0 < value < math.inf


def _standard(
    name: str,
    size: int,
    backbone: str,
    channels: int,
    cells: int,
    repeats: int,
    fusion: str = "fastattn",
    anchor_scale: float = 4.0,
    max_level: int = 7,
) -> EfficientDetConfig:
    return EfficientDetConfig(
        f"efficientdet-{name}",
        (size, size),
        f"efficientnet-{backbone}",
        channels,
        cells,
        repeats,
        fusion,
        anchor_scale,
        max_level=max_level,
        survival=1.0 if backbone == "b0" else SURVIVAL,
    )


def _lite(
    name: str, size: int, backbone: str, channels: int, cells: int, repeats: int, scale: float
) -> EfficientDetConfig:
    return replace(
        _standard(name, size, backbone, channels, cells, repeats, "sum", scale),
        activation="relu6",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


CONFIGS: Dict[str, EfficientDetConfig] = {
    config.name: config
    for config in (
        _standard("d0", 512, "b0", 64, 3, 3),
        _standard("d1", 640, "b1", 88, 4, 3),
        _standard("d2", 768, "b2", 112, 5, 3),
        _standard("d3", 896, "b3", 160, 6, 4),
        _standard("d4", 1024, "b4", 224, 7, 4),
        _standard("d5", 1280, "b5", 288, 7, 4),
        _standard("d6", 1280, "b6", 384, 8, 5, "sum"),
        _standard("d7", 1536, "b6", 384, 8, 5, "sum", 5.0),  # B6, not B7
        _standard("d7x", 1536, "b7", 384, 8, 5, "sum", 4.0, 8),
        _lite("lite0", 320, "lite0", 64, 3, 3, 3.0),
        _lite("lite1", 384, "lite1", 88, 4, 3, 3.0),
        _lite("lite2", 448, "lite2", 112, 5, 3, 3.0),
        _lite("lite3", 512, "lite3", 160, 6, 4, 4.0),
        _lite("lite3x", 640, "lite3", 200, 6, 4, 3.0),
        _lite("lite4", 640, "lite4", 224, 7, 4, 4.0),
    )
}
"""Name -> configuration, for COCO's 90 classes."""
