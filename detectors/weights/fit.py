"""Whether weights fit a network, and a refusal that says what differs."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from torch import Tensor

from detectors.models.efficientdet.config import CONFIGS as EFFICIENTDETS
from detectors.weights.family import FAMILIES, Config, Family, family_of
from detectors.weights.source import CLASSIFIERS, Source

__all__ = ["COUNTER", "Converted", "OtherFormError", "differences"]

RELEARNED = "anchor_scale"
"""A field that a training may change: boxes begin relative to other anchors, and are learned."""
COUNTER = "num_batches_tracked"  # torch counts batches, others do not; inference ignores it


class Converted(NamedTuple):
    """A source under our names."""

    state: Dict[str, Tensor]
    """By the names of our network's state dict, as far as the source goes."""
    unused: Tuple[str, ...] = ()
    """The source's names that no tensor of the network takes."""
    skipped: Tuple[str, ...] = ()
    """The source's names that belong to no detector: a classifier's last layer."""


class OtherFormError(ValueError):
    """Weights of a model with other settings.

    Args:
        message: for callers of `load_weights`.
        settings: the fields of the configuration that differ, with the weights' values; and their
            `variant` of Faster R-CNN or `name` of an EfficientDet.
    """

    def __init__(self, message: str, settings: Dict[str, Any]) -> None:
        super().__init__(message)
        self.settings = settings


def require_same_family(source: Source, config: Config) -> None:
    """Raise for the weights of another kind of detector."""
    if source.family != family_of(config):
        raise ValueError(
            f"{source.path} ({source.origin}) belongs to the family {source.family};"
            f" the model is {config.name}"
        )


def require_head(
    source: Source, own: Iterable[str], config: Config, head: Optional[str] = None
) -> None:
    """Raise for a classifier's weights, and say how much of a detector they lack.

    Args:
        source: of any origin.
        own: the names of the network's tensors.
        config: of the model.
        head: "new" where the detector's tensors need not be there.
    """
    if source.origin not in CLASSIFIERS or head == "new":
        return
    if head == "map":
        raise ValueError(
            f"{source.path} is a classifier without a detection head: it has no rows of classes for"
            ' head="map"; head="new" takes its features'
        )
    missing = [n for n in own if not n.startswith("backbone.") and not n.endswith(COUNTER)]
    parts = sorted({name.split(".")[0] for name in missing})
    raise ValueError(
        f"{source.path} is a classifier without a detection head: {len(missing)} tensors of"
        f" {config.name} ({', '.join(parts)}) would be missing; to train one from it:"
        " model.weights=FILE in a recipe, head='new' in Python"
    )


def require_same_config(source: Source, config: Config, head: Optional[str] = None) -> None:
    """Raise if equal tensors would mean something else in the model.

    Args:
        source: of any origin.
        config: of the model.
        head: where it is given, the model is about to learn: anchors may have another size.
    """
    saved = saved_config(source, config)
    if saved is None:
        return
    different = {
        name: value(saved, name)
        for name in FAMILIES[source.family].fields
        if value(saved, name) != value(config, name) and not (head and name == RELEARNED)
    }
    if different:
        pairs = [
            f"{name} {theirs!r} -> {value(config, name)!r}" for name, theirs in different.items()
        ]
        key = "variant" if hasattr(saved, "variant") else "name"
        raise OtherFormError(
            f"{source.path} is {saved.name}, the model is {config.name}; they differ in"
            f" {'; '.join(pairs)}",
            {**different, key: getattr(saved, key)},
        )


def saved_config(source: Source, config: Config) -> Optional[Config]:
    """What a detector's weights were trained as: the record says, or for others' EfficientDets the
    published model of this name.
    """
    if source.record is not None:
        return source.record.config
    return EFFICIENTDETS.get(config.name) if source.origin in ("effdet", "automl") else None


def value(config: Config, name: str) -> Any:
    """A field of a configuration, or of one of its parts."""
    return reduce(getattr, name.split("."), config)


def differences(converted: Converted, own: Mapping[str, Tensor], family: Family) -> List[str]:
    """What is missing, too much or of another shape, in at most three lines; the number of classes
    aside.
    """
    state = converted.state
    missing = [n for n in own if n not in state and not n.endswith(COUNTER)]
    shapes = [
        f"{name} {tuple(value.shape)}, the model has {tuple(own[name].shape)}"
        for name, value in state.items()
        if value.shape != own[name].shape and not is_class_output(name, value, own[name], family)
    ]
    return [
        f"{len(found)} {what}: {', '.join(found[:2])}{', …' if len(found) > 2 else ''}"
        for what, found in (
            ("tensors missing", missing),
            ("tensors unknown to the model", list(converted.unused)),
            ("of another shape", shapes),
        )
        if found
    ]


def is_class_output(name: str, value: Tensor, own: Tensor, family: Family) -> bool:
    """Whether two shapes differ by the number of classes only."""
    names = [layer.name for layer in family.class_layers]
    return name.rpartition(".")[0] in names and value.shape[1:] == own.shape[1:]


def require_same_tensors(
    source: Source, converted: Converted, own: Mapping[str, Tensor], config: Config
) -> None:
    """Raise unless the source has exactly these tensors."""
    lines = differences(converted, own, FAMILIES[family_of(config)])
    if lines:
        raise ValueError(f"{source.path} does not fit {config.name}:\n  " + "\n  ".join(lines))


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise if a tensor holds inf or nan."""
    bad = [n for n, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise ValueError(f"{path}: {len(bad)} tensors hold inf or nan, the first is {bad[0]}")
