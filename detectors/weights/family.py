"""The two families of detectors, as far as a record or a refusal has to know them.

C classes, the background apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, NamedTuple, Tuple, Type, Union

from torch import nn

from detectors.models.efficientdet.config import CONFIGS as EFFICIENTDETS
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.models.efficientdet.network import build_network as build_efficientdet_network
from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from detectors.models.faster_rcnn.network import build_network as build_faster_rcnn_network
from detectors.postprocess import PostprocessConfig

__all__ = ["FAMILIES", "ClassLayer", "Config", "Detector", "Family", "family_of"]

Detector = Union[EfficientDet, FasterRCNN]
Config = Union[EfficientDetConfig, FasterRCNNConfig]


class ClassLayer(NamedTuple):
    """A layer whose outputs are (anchors, C, values), with the background after the classes."""

    name: str
    """Of the module in the network."""
    per_anchor: bool = False
    """Whether there are more anchors than one."""
    values: int = 1
    """Outputs for each class."""
    background: int = 0
    """Outputs that belong to no class, at the end."""


@dataclass(frozen=True)
class Family:
    """What differs between detectors."""

    config: Type[Config]
    """Of its models."""
    example: Config
    """Of one of them."""
    build: Callable[[Config, str], Detector]
    """Configuration and `nms` -> a detector with random weights."""
    build_network: Callable[[Config], nn.Module]
    """Its part with parameters."""
    fields: Tuple[str, ...]
    """Of the configuration: what changes the results of equal tensors."""
    norm: str
    """A tensor that a folded network does not have."""
    head: str
    """Start of the names of all tensors that a new head starts anew."""
    class_layers: Tuple[ClassLayer, ...]
    """Where there is one row, or some, for each class."""


def _efficientdet(config: Config, nms: str) -> Detector:
    assert isinstance(config, EfficientDetConfig)
    return build_efficientdet(config, PostprocessConfig(), nms)


def _efficientdet_network(config: Config) -> nn.Module:
    assert isinstance(config, EfficientDetConfig)
    return build_efficientdet_network(config)


def _faster_rcnn(config: Config, nms: str) -> Detector:
    assert isinstance(config, FasterRCNNConfig)
    return build_faster_rcnn(config, None, nms)


def _faster_rcnn_network(config: Config) -> nn.Module:
    assert isinstance(config, FasterRCNNConfig)
    return build_faster_rcnn_network(config)


FAMILIES: Dict[str, Family] = {
    "efficientdet": Family(
        EfficientDetConfig,
        EFFICIENTDETS["efficientdet-d0"],
        _efficientdet,
        _efficientdet_network,
        ("backbone", "fusion", "activation", "anchor_scale", "anchor_octaves"),
        "bifpn.cells.0.nodes.0.norm.running_var",
        "class_head.predict.",
        (ClassLayer("class_head.predict.pointwise", per_anchor=True),),
    ),
    "faster_rcnn": Family(
        FasterRCNNConfig,
        FasterRCNNConfig(),
        _faster_rcnn,
        _faster_rcnn_network,
        (
            "depth",
            "stride_in_1x1",
            "anchors.version",
            "anchors.sizes",
            "anchors.ratios",
            "rpn.channels",
            "rpn.objectness",
            "box_head.pool_size",
            "box_head.sampling_ratio",
            "box_head.aligned",
            "box_head.res5_stride",
        ),
        "backbone.bn1.running_var",
        "box_head.",
        (
            ClassLayer("box_head.class_logits", background=1),
            ClassLayer("box_head.box_deltas", values=4),
        ),
    ),
}
"""Name -> family."""


def family_of(config: Config) -> str:
    """The name of a configuration's family."""
    return next(name for name, family in FAMILIES.items() if isinstance(config, family.config))
