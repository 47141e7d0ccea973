"""Whether weights fit a network: their names in ours, and a refusal that says what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from detectors.models.efficientdet.config import CONFIGS, EfficientDetConfig
from detectors.models.efficientdet.network import build_network
from detectors.weights.automl import from_automl, sources
from detectors.weights.binding import class_names
from detectors.weights.effdet import effdet_name, from_effdet
from detectors.weights.known import known_by_hash
from detectors.weights.source import Source

COUNTER = "num_batches_tracked"  # torch counts batches, TensorFlow does not; inference ignores it
CLASS_HEAD = "class_head.predict."
NETWORK_FIELDS = ("backbone", "fusion", "activation", "anchor_scale", "anchor_octaves")
"""What changes the results of equal tensors, so a file and a model must agree on it."""


class Converted(NamedTuple):
    """A source under our names."""

    state: Dict[str, Tensor]
    """By the names of our network's state dict, as far as the source goes."""
    unused: Tuple[str, ...]
    """The source's names that no tensor of the network takes."""


def convert(source: Source, own: Mapping[str, Tensor], config: EfficientDetConfig) -> Converted:
    """The source under the names of a network of this configuration."""
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


def require_same_model(
    source: Source, converted: Converted, own: Mapping[str, Tensor], config: EfficientDetConfig
) -> None:
    """Raise unless the source has exactly the network's tensors, the class head's size aside."""
    if source.record is not None:
        _require_same_config(source.record.config, config, source.path)
    known = known_by_hash(source.sha256)
    if known is not None and f"efficientdet-{known.model}" != config.name:
        raise ValueError(_other_model(source.path, [f"efficientdet-{known.model}"], config))
    differences = _differences(converted, own)
    if differences:
        fitting = _fitting_models(source, converted)
        if fitting:
            raise ValueError(_other_model(source.path, fitting, config))
        raise ValueError(
            f"{source.path} does not fit {config.name}:\n  " + "\n  ".join(differences)
        )


def require_detector(source: Source, own: Mapping[str, Tensor], config: EfficientDetConfig) -> None:
    """Raise for a classifier's weights, and say how much of a detector they lack."""
    if source.origin == "imagenet":
        missing = [n for n in own if not n.startswith("backbone.") and not n.endswith(COUNTER)]
        raise ValueError(
            f"{source.path} is a classifier without a detection head: {len(missing)} tensors of"
            f" {config.name} (BiFPN, class and box head) would be missing"
        )


def require_same_classes(
    source: Source, state: Mapping[str, Tensor], config: EfficientDetConfig, head: Optional[str]
) -> None:
    """Raise if the class head has another size and was not asked to be new."""
    found = _num_classes(state, config)
    if head is None and found != config.num_classes:
        names = [name for name in class_names(source, found) or () if name]
        listed = f" ({names[0]} … {names[-1]})" if names else ""
        raise ValueError(
            f"weights: {found} classes{listed}; model: {config.num_classes}\n"
            f'  head="new" keeps the features and starts a new class head\n'
            f"  num_classes={found} takes the weights as they are"
        )


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise if a tensor holds inf or nan."""
    bad = [n for n, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise ValueError(f"{path}: {len(bad)} tensors hold inf or nan, the first is {bad[0]}")


def _require_same_config(saved: EfficientDetConfig, config: EfficientDetConfig, path: Path) -> None:
    different = [f for f in NETWORK_FIELDS if getattr(saved, f) != getattr(config, f)]
    if different:
        pairs = [f"{f} {getattr(saved, f)!r} -> {getattr(config, f)!r}" for f in different]
        raise ValueError(
            f"{path} is {saved.name}, the model is {config.name}; they differ in {'; '.join(pairs)}"
        )


def _differences(converted: Converted, own: Mapping[str, Tensor]) -> List[str]:
    """What is missing, too much or of another shape, in at most three lines."""
    state, unused = converted
    missing = [n for n in own if n not in state and not n.endswith(COUNTER)]
    shapes = [
        f"{name} {tuple(value.shape)}, the model has {tuple(own[name].shape)}"
        for name, value in state.items()
        if value.shape != own[name].shape and not _is_class_output(name, value, own[name])
    ]
    return [
        f"{len(found)} {what}: {', '.join(found[:2])}{', …' if len(found) > 2 else ''}"
        for what, found in (
            ("tensors missing", missing),
            ("tensors unknown to the model", list(unused)),
            ("of another shape", shapes),
        )
        if found
    ]


def _is_class_output(name: str, value: Tensor, own: Tensor) -> bool:
    """Whether two shapes differ by the number of classes only."""
    return name.startswith(CLASS_HEAD) and value.shape[1:] == own.shape[1:]


def _num_classes(state: Mapping[str, Tensor], config: EfficientDetConfig) -> int:
    return state["class_head.predict.pointwise.bias"].numel() // config.num_anchors


def _fitting_models(source: Source, converted: Converted) -> List[str]:
    """The models whose tensors these are, for a message; those of the right width are built."""
    depthwise = converted.state.get(f"{CLASS_HEAD}depthwise.weight")
    fitting = []
    for name, config in CONFIGS.items():
        if depthwise is not None and len(depthwise) == config.fpn_channels:
            with torch.device("meta"):
                own = build_network(config).state_dict()
            if not _differences(convert(source, own, config), own):
                fitting.append(name)
    return fitting


def _other_model(path: Path, names: List[str], config: EfficientDetConfig) -> str:
    return (
        f"{path} holds the weights of {' or '.join(names)}; the model is {config.name}:"
        f" build efficientdet('{names[0]}')"
    )
