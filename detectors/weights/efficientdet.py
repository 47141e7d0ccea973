"""EfficientDet's weights of any origin under our names, and which of its models they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import List, Mapping

import torch
from torch import Tensor

from detectors.models.efficientdet.config import CONFIGS, EfficientDetConfig
from detectors.models.efficientdet.network import build_network
from detectors.weights.automl import from_automl, sources
from detectors.weights.effdet import effdet_name, from_effdet
from detectors.weights.efficientnet import convert_efficientnet, require_same_efficientnet
from detectors.weights.family import FAMILIES
from detectors.weights.fit import Converted, differences
from detectors.weights.known import known_by_hash
from detectors.weights.source import CLASSIFIERS, Source

__all__ = ["convert_efficientdet", "require_same_efficientdet"]

WIDTH = "class_head.predict.depthwise.weight"  # has as many rows as the pyramid has channels
BOXES = "box_head.predict.pointwise.bias"  # four numbers for each anchor of a cell


def convert_efficientdet(
    source: Source, own: Mapping[str, Tensor], config: EfficientDetConfig
) -> Converted:
    """The source under the names of a network of this configuration; `own` of a classifier's are
    the backbone's.
    """
    if source.origin in CLASSIFIERS:
        return convert_efficientnet(source, own, config)
    if source.origin == "effdet":
        taken = {effdet_name(name, config) for name in own}
        state = from_effdet(source.tensors, own, config)
    elif source.origin == "automl":
        taken = {v for names in sources(own, config).values() for v in names.variables}
        state = from_automl(source.tensors, own, config)
    else:
        taken = set(own)
        state = {name: value for name, value in source.tensors.items() if name in taken}
    return Converted(state, tuple(sorted(set(source.tensors) - taken)))


def require_same_efficientdet(
    source: Source, converted: Converted, own: Mapping[str, Tensor], config: EfficientDetConfig
) -> None:
    """Raise, with the name of the right one, for the weights of another of the family's models."""
    if source.origin in CLASSIFIERS:
        require_same_efficientnet(source, converted, own, config)
        return
    known = known_by_hash(source.sha256)
    if known is not None and f"efficientdet-{known.model}" != config.name:
        raise ValueError(_other_model(source.path, [f"efficientdet-{known.model}"], config))
    outputs = converted.state.get(BOXES)
    if outputs is not None and outputs.shape[0] != 4 * config.num_anchors:
        raise ValueError(
            f"{source.path} has {outputs.shape[0] // 4} anchors a cell, the model"
            f" {config.num_anchors}: octaves times aspects must be {outputs.shape[0] // 4}"
        )
    if differences(converted, own, FAMILIES["efficientdet"]):
        fitting = _fitting_models(source, converted)
        if fitting:
            raise ValueError(_other_model(source.path, fitting, config))


def _fitting_models(source: Source, converted: Converted) -> List[str]:
    """The models whose tensors these are, for a message; those of the right width are built."""
    depthwise = converted.state.get(WIDTH)
    fitting = []
    for name, config in CONFIGS.items():
        if depthwise is not None and len(depthwise) == config.fpn_channels:
            with torch.device("meta"):
                own = build_network(config).state_dict()
            if not differences(
                convert_efficientdet(source, own, config), own, FAMILIES["efficientdet"]
            ):
                fitting.append(name)
    return fitting


def _other_model(path: Path, names: List[str], config: EfficientDetConfig) -> str:
    return (
        f"{path} holds the weights of {' or '.join(names)}; the model is {config.name}:"
        f" build efficientdet('{names[0]}')"
    )
