"""Fills a model with weights of any origin, completely or not at all.

What no tensor tells (normalisation, padding, the form of the anchors) is bound to the weights by
their origin and set in the model; what does not fit is refused before the model is touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import binding, fit
from detectors.weights.category_ids import CategoryIds
from detectors.weights.checkpoint import ClassNames
from detectors.weights.class_head import HEADS, fit_head
from detectors.weights.class_rows import count_classes
from detectors.weights.efficientdet import convert_efficientdet, require_same_efficientdet
from detectors.weights.family import FAMILIES, Config, Detector, family_of
from detectors.weights.faster_rcnn import convert_faster_rcnn, require_same_faster_rcnn
from detectors.weights.preprocess import NAMED
from detectors.weights.report import LoadReport
from detectors.weights.source import CLASSIFIERS, Source, open_source

__all__ = ["NoRecordError", "load", "load_checkpoint", "load_weights"]

State = Mapping[str, Tensor]
Names = Optional[Sequence[Optional[str]]]


class NoRecordError(ValueError):
    """A file without our record.

    Args:
        message: for callers of `load`.
        origin: of the file.
    """

    def __init__(self, message: str, origin: str) -> None:
        super().__init__(message)
        self.origin = origin


def load_weights(
    model: Detector,
    path: Union[str, Path],
    *,
    ema: bool = True,
    head: Optional[str] = None,
    classes: Names = None,
    preprocess: Optional[str] = None,
    origin: Optional[str] = None,
) -> LoadReport:
    """Fill every tensor of a model from a file, and set its normalisation and anchors to match.

    Args:
        model: not folded; changed in place, and only if everything fits.
        path: effdet's `.pth`, an AutoML checkpoint or tarball, detectron2's R-C4 `.pkl`,
            `.safetensors`, or one of ours. With `head="new"` also a classifier's: a Faster R-CNN
            takes a ResNet of torchvision, timm or Caffe (`.pth`) or MSRA (`.pkl`), an EfficientDet
            timm's `tf_efficientnet_*`.
        ema: take the moving average of the weights where the file has both.
        head: None; "new": the class layers keep the model's values, and of a classifier's weights
            all that is not the backbone does; "map": rows of classes that are in the weights too,
            by name, are taken, others keep the model's values.
        classes: the model's class names by label. Without `head` the weights must have the same.
        preprocess: "imagenet" or "advprop", where the file cannot tell; None to go by its origin.
        origin: "torchvision", "timm" or "caffe", where a ResNet's file cannot tell; None to go by
            its name.

    Returns:
        What was used, converted, kept and assumed.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: damaged, unsafe, of unknown origin, of another model or of other classes.
    """
    if head not in HEADS:
        raise ValueError(f"head must be None, 'new' or 'map', got {head!r}")
    if preprocess is not None and preprocess not in NAMED:
        raise ValueError(f"preprocess must be one of {list(NAMED)}, got {preprocess!r}")
    if FAMILIES[family_of(model.config)].norm not in model.network.state_dict():
        raise ValueError("the model is folded: load weights before fold_batch_norm")
    return _fill(model, open_source(Path(path), ema, origin), head, classes, preprocess)


def load(path: Union[str, Path], *, nms: str = "device", ema: bool = True) -> Detector:
    """The model of one of our checkpoints, as it was saved: an EfficientDet or a FasterRCNN.

    Args:
        path: what `save` or a training wrote, or a run folder.
        nms: as the builders take it.
        ema: take the moving average of the weights where the training kept one (`optim.ema`).

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: damaged, or not one of ours with a record.
    """
    return load_checkpoint(path, nms=nms, ema=ema)[0]


def load_checkpoint(
    path: Union[str, Path], *, nms: str = "device", ema: bool = True
) -> Tuple[Detector, LoadReport]:
    """`load`, and the report: names and ids of the classes, padding, what the training added."""
    source = open_source(Path(path), ema)
    if source.record is None:
        _require_detector(source)
        raise NoRecordError(
            f"{source.path} ({source.origin}) does not say which model it is: build one with"
            f" {source.family}(name) and fill it with load_weights(model, path)",
            source.origin,
        )
    model = FAMILIES[source.family].build(source.record.config, nms)
    return model, _fill(model, source)


def _require_detector(source: Source) -> None:
    """Raise for a classifier's weights."""
    family = FAMILIES[source.family]
    with torch.device("meta"):
        own = family.build_network(family.example).state_dict()
    fit.require_head(source, own, family.example)


def _fill(
    model: Detector,
    source: Source,
    head: Optional[str] = None,
    classes: Names = None,
    preprocess: Optional[str] = None,
) -> LoadReport:
    """`load_weights` of what has been opened."""
    config = model.config
    own = model.network.state_dict()
    fit.require_same_family(source, config)
    fit.require_head(source, own, config, head)
    converted = _convert(source, own, config, head)
    names: ClassNames = None
    ids: CategoryIds = None
    taken, words = dict(converted.state), ""
    if source.origin not in CLASSIFIERS:
        count = count_classes(taken, config, FAMILIES[source.family])
        names = binding.class_names(source, count)
        taken, words = fit_head(own, taken, (count, names), classes, head, config)
        names = names if head is None else None
        ids = binding.category_ids(source, count) if head is None else None
    fit.require_finite(taken, source.path)

    report = binding.make_report(source, converted, taken, own, config, preprocess)
    names = _tuple(classes) or names
    report = replace(report, class_names=names, category_ids=ids, head=words)
    model.network.load_state_dict({**own, **taken})
    pre = report.preprocess
    if isinstance(model, EfficientDet):
        model.configure(mean=pre.mean, std=pre.std, anchor_aspects=report.anchor_aspects)
    else:
        model.configure(mean=pre.mean, std=pre.std)
    return report


def _convert(source: Source, own: State, config: Config, head: Optional[str]) -> fit.Converted:
    """The source under our names; raises unless it has exactly the network's tensors, the size of
    the class head aside.
    """
    fit.require_same_config(source, config, head)
    if source.origin in CLASSIFIERS:
        own = {name: value for name, value in own.items() if name.startswith("backbone.")}
    if isinstance(config, EfficientDetConfig):
        converted = convert_efficientdet(source, own, config)
        require_same_efficientdet(source, converted, own, config)
    else:
        require_same_faster_rcnn(source, config)
        converted = convert_faster_rcnn(source, own)
    fit.require_same_tensors(source, converted, own, config)
    return converted


def _tuple(names: Names) -> ClassNames:
    return None if names is None else tuple(names)
