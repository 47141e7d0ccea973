"""Faster R-CNN R50-C4 in the three forms that published VOC figures come from.

`seed`: Graphcore's PopART example; `pytorch-faster-rcnn`: ruotianluo's; `detectron2`: its
PascalVOC-Detection R50-C4. All code boxes without "+1", clamp log scales, suppress over (not from)
the NMS threshold, and fill up with background where objects are few. The seed strides layer2 and
layer3 in the 1x1 and res5 in the 3x3; here one setting, fixed by the weights, holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, Tuple

from detectors.backbones.resnet import DEPTHS
from detectors.postprocess import PostprocessConfig

__all__ = ["CONFIGS", "AnchorConfig", "BoxHeadConfig", "FasterRCNNConfig", "RPNConfig"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
STRIDE = 16  # input pixels per cell of the trunk's features


def require(name: str, value: str, allowed: Tuple[str, ...]) -> None:
    """Raise unless a setting is one of a few words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got '{value}'")


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors of one cell."""

    version: str = "v1"
    """`v1` (whole pixels, as py-faster-rcnn) or `v2` (exact, as detectron2)."""
    sizes: Tuple[float, ...] = (32, 64, 128, 256, 512)
    """Roots of areas, input pixels."""
    ratios: Tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height / width."""

    def __post_init__(self) -> None:
        require("anchors.version", self.version, ("v1", "v2"))
        if not self.sizes or min(self.sizes) <= 0:
            raise ValueError(f"anchors.sizes must be positive pixels, got {self.sizes}")
        if not self.ratios or min(self.ratios) <= 0:
            raise ValueError(f"anchors.ratios must be positive, got {self.ratios}")


@dataclass(frozen=True)
class RPNConfig:
    """Region proposals and what they are trained on."""

    channels: int = 0
    """Of the 3x3 convolution; 0 = as many as the features have."""
    objectness: str = "softmax"
    """`softmax` over background and object, or `sigmoid`."""
    inside_only: bool = True
    """Anchors that cross the image's edge are not trained on."""
    num_samples: int = 256
    """Anchors trained on, for each image."""
    positive_fraction: float = 0.5
    """At most this share of them is positive."""
    beta: float = 1 / 9
    """Of the smooth-L1 loss; 0 = L1."""
    divide_by: str = "valid"
    """Losses are divided by the `valid` samples, or always by `num_samples` (and images)."""
    positive: float = 0.7
    """Object from this IoU on."""
    negative: float = 0.3
    """Background below this IoU."""
    pre_nms: Tuple[int, int] = (12000, 12000)
    """Anchors that enter NMS, in training and inference."""
    post_nms: Tuple[int, int] = (2000, 1000)
    """Proposals that leave it."""
    nms_threshold: float = 0.7
    """IoU over which the worse of two proposals goes."""

    def __post_init__(self) -> None:
        require("rpn.objectness", self.objectness, ("softmax", "sigmoid"))
        require("rpn.divide_by", self.divide_by, ("valid", "num_samples"))
        check_samples("rpn", self.num_samples, self.positive_fraction, self.beta)
        if min(self.pre_nms + self.post_nms) < 1:
            raise ValueError(
                "rpn.pre_nms and rpn.post_nms must be at least 1,"
                f" got {self.pre_nms} and {self.post_nms}"
            )
        if self.channels < 0:
            raise ValueError(f"rpn.channels must be 0 (as the features) or more: {self.channels}")


@dataclass(frozen=True)
class BoxHeadConfig:
    """Regions: how they are pooled, and what their head is trained on."""

    pool_size: int = 7
    """Bins along each side of a pooled region."""
    sampling_ratio: int = 1
    """Samples along each side of a bin; 0 = as many as the bin has cells."""
    aligned: bool = True
    """Coordinates shifted by half a cell, as they should be."""
    res5_stride: int = 2
    """Of layer4 on pooled regions."""
    num_samples: int = 256
    """Regions trained on, for each image."""
    positive_fraction: float = 0.25
    """At most this share of them is positive."""
    append_boxes: bool = False
    """The ground truth is among the regions to be drawn from."""
    beta: float = 1.0
    """Of the smooth-L1 loss; 0 = L1."""
    positive: float = 0.5
    """Object from this IoU on, background below."""
    score_threshold: float = 0.0
    """Only scores over this become detections."""
    nms_threshold: float = 0.3
    """IoU over which the worse of two detections of one class goes."""

    def __post_init__(self) -> None:
        check_samples("box_head", self.num_samples, self.positive_fraction, self.beta)
        if self.pool_size < 1 or self.sampling_ratio < 0:
            raise ValueError(
                "box_head.pool_size must be at least 1 and sampling_ratio at least 0,"
                f" got {self.pool_size} and {self.sampling_ratio}"
            )
        if self.res5_stride not in (1, 2):
            raise ValueError(f"box_head.res5_stride must be 1 or 2, got {self.res5_stride}")


def check_samples(part: str, num_samples: int, positive_fraction: float, beta: float) -> None:
    """Refuse sampling and loss settings out of range."""
    if num_samples < 1:
        raise ValueError(f"{part}.num_samples must be at least 1, got {num_samples}")
    if not 0 < positive_fraction <= 1:
        raise ValueError(
            f"{part}.positive_fraction must be over 0, up to 1, got {positive_fraction}"
        )
    if beta < 0:
        raise ValueError(f"{part}.beta must not be negative, got {beta}")


@dataclass(frozen=True)
class FasterRCNNConfig:
    """One detector and its criterion."""

    name: str = "faster_rcnn-r50_c4"
    """For reports and file names."""
    variant: str = "seed"
    """Whose settings these are; a key of `CONFIGS`."""
    depth: int = 50
    """Of the ResNet."""
    num_classes: int = 20
    """Without the background, which is the last logit."""
    image_size: Tuple[int, int] = (800, 800)
    """Pixels of the network input, (height, width)."""
    norm: str = "frozen"
    """`frozen` batch norms, or trained ones: `batch`."""
    frozen_stages: int = 2
    """First stages that are not trained: 0 = none, 1 = stem, 2 = and layer1."""
    stride_in_1x1: bool = False
    """Where bottlenecks have their stride; fixed by the weights: torchvision False, MSRA True."""
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    """Of the proposals."""
    rpn: RPNConfig = field(default_factory=RPNConfig)
    """First stage."""
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    """Second stage."""
    loss_weights: Tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Of RPN objectness, RPN boxes, region classes, region boxes."""
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from RGB values 0..255; fixed by the weights."""
    std: Tuple[float, float, float] = IMAGENET_STD
    """What the difference is divided by; fixed by the weights."""

    def __post_init__(self) -> None:
        require("norm", self.norm, ("frozen", "batch"))
        if self.depth not in DEPTHS:
            raise ValueError(f"depth must be one of {sorted(DEPTHS)}, got {self.depth}")
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if min(self.image_size) < STRIDE:
            raise ValueError(f"image_size must be {STRIDE} pixels or more, got {self.image_size}")
        if not 0 <= self.frozen_stages <= 4:
            raise ValueError(f"frozen_stages must be from 0 to 4, got {self.frozen_stages}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def num_anchors(self) -> int:
        """Anchors on each cell."""
        return len(self.anchors.sizes) * len(self.anchors.ratios)

    @property
    def postprocess(self) -> PostprocessConfig:
        """The variant's settings of the last NMS; 100 detections."""
        return PostprocessConfig(
            top_k=5000,
            multiclass=True,
            iou_threshold=self.box_head.nms_threshold,
            score_threshold=self.box_head.score_threshold,
            clip_before_nms=True,
        )


SEED = FasterRCNNConfig()

CONFIGS: Dict[str, FasterRCNNConfig] = {
    "seed": SEED,
    "pytorch-faster-rcnn": replace(
        SEED,
        variant="pytorch-faster-rcnn",
        anchors=AnchorConfig(sizes=(128, 256, 512)),
        rpn=RPNConfig(channels=512, pre_nms=(12000, 6000), post_nms=(2000, 300)),
        box_head=BoxHeadConfig(sampling_ratio=0, aligned=False, res5_stride=1),
    ),
    "detectron2": replace(
        SEED,
        variant="detectron2",
        anchors=AnchorConfig(version="v2"),
        rpn=RPNConfig(
            objectness="sigmoid",
            inside_only=False,
            beta=0.0,
            divide_by="num_samples",
            pre_nms=(12000, 6000),
        ),
        box_head=BoxHeadConfig(
            pool_size=14,
            sampling_ratio=0,
            num_samples=512,
            append_boxes=True,
            beta=0.0,
            score_threshold=0.05,
            nms_threshold=0.5,
        ),
    ),
}
"""Variant -> its R50-C4 for VOC's 20 classes."""
