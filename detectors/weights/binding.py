"""What goes with weights and no tensor tells: normalisation, padding, anchors, class names."""

from __future__ import annotations

from typing import List, Optional, Tuple

from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.weights.checkpoint import ClassNames
from detectors.weights.coco_names import COCO_90
from detectors.weights.known import known_by_hash
from detectors.weights.preprocess import (
    ADVPROP,
    AUTOML_LITE,
    EFFDET_LITE,
    IMAGENET,
    NAMED,
    Preprocess,
    from_statistics,
)
from detectors.weights.source import Source

ANCHOR_ASPECTS = {"effdet": "rounded", "automl": "exact"}
"""effdet kept the 1.4 and 0.7 of automl's first months; automl has the root of 2 since 2020-09."""


def anchor_aspects(source: Source, config: EfficientDetConfig) -> str:
    """The form of the anchors that the boxes are relative to."""
    if source.record is not None:
        return source.record.config.anchor_aspects
    return ANCHOR_ASPECTS.get(source.origin, config.anchor_aspects)


def class_names(source: Source, num_classes: int) -> ClassNames:
    """The record's names; COCO's where a foreign file has COCO's 90 outputs."""
    if source.record is not None:
        return source.record.classes
    return COCO_90 if source.origin != "detectors" and num_classes == len(COCO_90) else None


def preprocess(
    source: Source, config: EfficientDetConfig, asked: Optional[str]
) -> Tuple[Preprocess, List[str]]:
    """What the weights expect of images, and how sure that is."""
    if asked is not None:
        return NAMED[asked], [f"preprocess={asked} as asked for"]
    if source.record is not None:
        return source.record.preprocess, []
    if source.origin == "detectors":
        note = "the file has no record: mean, std and anchors are the model's own"
        return from_statistics(config.mean, config.std), [note]
    known = known_by_hash(source.sha256)
    if known is not None:
        return known.preprocess, []
    name = source.path.name.lower()
    lite = EFFDET_LITE if source.origin == "effdet" else AUTOML_LITE
    if "lite" in config.backbone:
        return lite, [f"{lite.name} normalisation assumed, as {source.origin}'s lite models"]
    if "_ap-" in name or "_ap." in name or "advprop" in name:
        return ADVPROP, ["advprop normalisation taken from the file's name"]
    return IMAGENET, ["imagenet normalisation assumed; for AdvProp weights preprocess='advprop'"]
