"""What goes with weights and no tensor tells: normalisation, padding, anchors, names and ids of the
classes; and the report that says so.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from torch import Tensor

from detectors.models.efficientdet.config import AnchorAspects, EfficientDetConfig
from detectors.weights.category_ids import CategoryIds, coco_ids
from detectors.weights.checkpoint import ClassNames
from detectors.weights.coco_names import COCO_90
from detectors.weights.family import Config
from detectors.weights.faster_rcnn import ORIGINS
from detectors.weights.fit import COUNTER, Converted, saved_config
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
from detectors.weights.report import LoadReport
from detectors.weights.source import CLASSIFIERS, Source
from detectors.weights.voc_names import VOC_20

ANCHOR_ASPECTS: Dict[str, AnchorAspects] = {"effdet": "rounded", "automl": "exact"}
"""effdet kept the 1.4 and 0.7 of automl's first months; automl has the root of 2 since 2020-09."""


DETECTRON2 = {20: VOC_20, 80: tuple(name for name in COCO_90 if name is not None)}
"""Its classes by their number: those of its two R-C4 detectors."""


def anchor_aspects(source: Source, config: Config) -> AnchorAspects:
    """The form of the anchors that the boxes are relative to: the weights', unless the model was
    given shapes of its own.
    """
    if not isinstance(config, EfficientDetConfig):
        return config.anchors.version
    if not isinstance(config.anchor_aspects, str):
        return config.anchor_aspects
    if source.record is not None:
        assert isinstance(source.record.config, EfficientDetConfig)
        return source.record.config.anchor_aspects
    return ANCHOR_ASPECTS.get(source.origin, config.anchor_aspects)


def class_names(source: Source, num_classes: int) -> ClassNames:
    """The record's names; VOC's or COCO's where a foreign file has as many outputs."""
    if source.record is not None:
        return source.record.classes
    if source.origin == "detectron2":
        return DETECTRON2.get(num_classes)
    foreign = source.origin in ("effdet", "automl")
    return COCO_90 if foreign and num_classes == len(COCO_90) else None


def category_ids(source: Source, num_classes: int) -> CategoryIds:
    """The record's ids; COCO's where a foreign file has its classes."""
    if source.record is not None:
        return source.record.category_ids
    return coco_ids(class_names(source, num_classes))


def preprocess(
    source: Source, config: Config, asked: Optional[str]
) -> Tuple[Preprocess, List[str]]:
    """What the weights expect of images, and how sure that is."""
    if asked is not None:
        return NAMED[asked], [f"preprocess={asked} as asked for"]
    if source.record is not None:
        return source.record.preprocess, []
    if source.origin == "detectors":
        note = "the file has no record: mean, std and anchors are the model's own"
        return from_statistics(config.mean, config.std), [note]
    if source.origin in ORIGINS:
        return ORIGINS[source.origin].preprocess, []
    assert isinstance(config, EfficientDetConfig)
    known = known_by_hash(source.sha256)
    if known is not None:
        return known.preprocess, []
    name = source.path.name.lower()
    lite = AUTOML_LITE if source.origin == "automl" else EFFDET_LITE
    if "lite" in config.backbone:
        whose = "timm" if source.origin in CLASSIFIERS else source.origin
        return lite, [f"{lite.name} normalisation assumed, as {whose}'s lite models"]
    if "_ap-" in name or "_ap." in name or "advprop" in name:
        return ADVPROP, ["advprop normalisation taken from the file's name"]
    return IMAGENET, ["imagenet normalisation assumed; for AdvProp weights preprocess='advprop'"]


def make_report(
    source: Source,
    converted: Converted,
    taken: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    config: Config,
    asked: Optional[str],
) -> LoadReport:
    """What a load did, but for the classes.

    Args:
        source: of any origin.
        converted: the same under our names.
        taken: what of it goes into the network.
        own: the network's state before.
        config: of the model.
        asked: the preprocessing, where the caller said it.
    """
    chosen, notes = preprocess(source, config, asked)
    changes = []
    if source.origin in ("msra", "detectron2"):
        changes.append(f"names of {source.origin}")
    if source.origin in ("caffe", "msra", "detectron2"):
        changes.append("first convolution from BGR to RGB")
    if source.origin == "automl":
        changes.append("kernels from height, width, in, out")
    if source.origin in ("effdet", "automl"):
        changes.append("box channels from y, x to x, y")
    dtypes = {str(v.dtype)[6:] for n, v in taken.items() if v.dtype != own[n].dtype}
    if dtypes:
        changes.append(f"from {', '.join(sorted(dtypes))}")
    saved = source.record.config.image_size if source.record is not None else config.image_size
    if saved != config.image_size:
        notes.append(f"saved at {saved} pixels, model has {config.image_size}")
    trained = saved_config(source, config)
    if isinstance(trained, EfficientDetConfig) and isinstance(config, EfficientDetConfig):
        before, now = trained.anchor_scale, config.anchor_scale
        if before != now:
            notes.append(f"anchors of scale {now}, the weights have {before}: boxes begin off")
    kept = tuple(name for name in own if name not in taken)
    if source.origin in CLASSIFIERS:
        count = sum(not name.endswith(COUNTER) for name in kept)
        notes.append(f"{count} tensors of the detector are not in a classifier")
    if source.origin == "imagenet" and known_by_hash(source.sha256) is None:
        notes.append("padding as TensorFlow's assumed, which timm's tf_efficientnet_* have")
    return LoadReport(
        path=source.path,
        origin=source.origin,
        model=config.name,
        sha256=source.sha256,
        num_tensors=len(taken),
        num_values=sum(value.numel() for value in taken.values()),
        kept=kept,
        skipped=source.skipped + converted.skipped,
        averaged=source.averaged,
        converted=tuple(changes),
        preprocess=chosen,
        anchor_aspects=anchor_aspects(source, config),
        class_names=None,
        notes=tuple(notes),
        extra=dict(source.record.extra) if source.record is not None else {},
    )
