"""An EfficientNet classifier's features under EfficientDet's names: timm's `tf_efficientnet_*`,
whose names effdet kept, or those of our own backbone.

What pads evenly on all sides (torchvision's, timm's without `tf_`) has the same tensors and gives
other features: it is refused where it can be known.
"""

from __future__ import annotations

from typing import List, Mapping

import torch
from torch import Tensor

from detectors.backbones.efficientnet import MULTIPLIERS, EfficientNet
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.weights.effdet import effdet_name
from detectors.weights.family import FAMILIES
from detectors.weights.fit import COUNTER, Converted, differences
from detectors.weights.known import known_by_hash
from detectors.weights.source import Source

__all__ = ["convert_efficientnet", "require_same_efficientnet"]

PREFIX = "backbone."
CLASSIFIER = ("conv_head.", "bn2.", "classifier.")
"""Starts of the names after the last block."""


def convert_efficientnet(
    source: Source, own: Mapping[str, Tensor], config: EfficientDetConfig
) -> Converted:
    """The features under the names of a network's backbone.

    Args:
        source: of the origin `imagenet`.
        own: the tensors of the network's backbone.
        config: of the network.

    Raises:
        ValueError: of TensorFlow, or of a network that pads evenly.
    """
    tensors = source.tensors
    if not any(name in tensors for name in ("conv_stem.weight", "stem.conv.weight")):
        raise ValueError(
            f"{source.path} is a classifier of TensorFlow: of those only detectors are read; timm's"
            f" {_published(config)} has the same layers"
        )
    if source.path.name.startswith("efficientnet_"):  # as timm names its files
        raise ValueError(
            f"{source.path} is timm's own EfficientNet, which pads alike on all sides: the same"
            f" tensors in another network; {config.name} takes timm's {_published(config)}"
        )
    names = {name: name[len(PREFIX) :] for name in own}
    if "conv_stem.weight" in tensors:
        names = {name: effdet_name(name, config)[len(PREFIX) :] for name in own}
    state = {name: tensors[theirs] for name, theirs in names.items() if theirs in tensors}
    skipped = tuple(sorted(name for name in tensors if name.startswith(CLASSIFIER)))
    unused = set(tensors) - set(names.values()) - set(skipped)
    return Converted(state, tuple(sorted(n for n in unused if not n.endswith(COUNTER))), skipped)


def require_same_efficientnet(
    source: Source, converted: Converted, own: Mapping[str, Tensor], config: EfficientDetConfig
) -> None:
    """Raise, with the name of the right one, for the features of another size."""
    known = known_by_hash(source.sha256)
    found = [known.model] if known is not None else []
    if known is None and differences(converted, own, FAMILIES["efficientdet"]):
        found = _fitting(source, config)
    if found and config.backbone not in found:
        raise ValueError(
            f"{source.path} holds the features of {' or '.join(found)}; {config.name} has those of"
            f" {config.backbone}: take {_published(config)}"
        )


def _fitting(source: Source, config: EfficientDetConfig) -> List[str]:
    """The sizes whose tensors these are."""
    fitting = []
    for name in MULTIPLIERS:
        with torch.device("meta"):
            state = EfficientNet(name).state_dict()
        own = {PREFIX + key: value for key, value in state.items()}
        converted = convert_efficientnet(source, own, config)
        if not differences(converted, own, FAMILIES["efficientdet"]):
            fitting.append(name)
    return fitting


def _published(config: EfficientDetConfig) -> str:
    return "tf_" + config.backbone.replace("-", "_")
