"""From a recipe and the data's class names to a detector with the weights it starts from."""

from __future__ import annotations

import difflib
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, TypeVar

import torch

from detectors.anchors import level_size
from detectors.commands.published import fetch_published
from detectors.commands.train.refusals import keys_of, other_classes
from detectors.experiment.recipe import ModelSettings, Recipe, image_size, resolve
from detectors.models.efficientdet.config import CONFIGS as EFFICIENTDETS
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import build_efficientdet
from detectors.models.faster_rcnn.config import CONFIGS, FasterRCNNConfig
from detectors.models.faster_rcnn.inference import build_faster_rcnn
from detectors.postprocess import PostprocessConfig
from detectors.weights import LoadReport, load_checkpoint, load_weights
from detectors.weights.class_head import OtherClassesError
from detectors.weights.family import Config, Detector
from detectors.weights.fit import OtherFormError
from detectors.weights.known import KNOWN
from detectors.weights.source import CLASSIFIERS, open_source
from detectors.weights.tensor_bundle import find_checkpoint

__all__ = ["EVALUATION", "build_model", "configuration", "load_detector"]

Part = TypeVar("Part")

EVALUATION = PostprocessConfig(multiclass=True, score_threshold=0.001)
"""EfficientDet's detections when it is judged, as automl's: the 5000 best (anchor, class) pairs."""


def configuration(recipe: Recipe, num_classes: int) -> Config:
    """What a recipe says of its model, nulls replaced by the model's values."""
    settings = resolve(recipe).model
    if settings.name == "faster_rcnn":
        return _faster_rcnn(recipe, settings, num_classes)
    return _efficientdet(recipe, settings, num_classes)


def _efficientdet(recipe: Recipe, settings: ModelSettings, num_classes: int) -> EfficientDetConfig:
    base = EFFICIENTDETS[settings.name]
    assert settings.survival is not None  # resolved
    assert settings.pyramid.octaves is not None
    return replace(
        base,
        num_classes=num_classes,
        image_size=image_size(recipe),
        anchor_scale=_tuples(settings.pyramid.scale),
        anchor_octaves=settings.pyramid.octaves,
        anchor_aspects=_tuples(settings.pyramid.aspects),
        loss=_overridden(base.loss, settings.loss),
        survival=settings.survival,
        norm=settings.norm.value,
        norm_momentum=settings.norm_momentum,
        frozen=tuple(settings.frozen),
    )


def _faster_rcnn(recipe: Recipe, settings: ModelSettings, num_classes: int) -> FasterRCNNConfig:
    base = CONFIGS[settings.variant]
    assert settings.frozen_stages is not None  # resolved
    return replace(
        base,
        name=f"faster_rcnn-r{settings.depth}_c4",
        depth=settings.depth,
        num_classes=num_classes,
        image_size=image_size(recipe),
        norm=settings.norm.value,
        frozen_stages=settings.frozen_stages,
        stride_in_1x1=settings.stride_in_1x1,
        anchors=_overridden(base.anchors, settings.anchors),
        rpn=_overridden(base.rpn, settings.rpn),
        box_head=_overridden(base.box_head, settings.box_head),
    )


def build_detector(config: Config) -> Detector:
    """With random weights; an EfficientDet's detections are for an evaluation."""
    if isinstance(config, EfficientDetConfig):
        return build_efficientdet(config, EVALUATION)
    return build_faster_rcnn(config)


def build_model(
    recipe: Recipe,
    class_names: Sequence[Optional[str]],
    *,
    checkpoint: Optional[Path] = None,
    quiet: bool = False,
) -> Tuple[Detector, Optional[LoadReport]]:
    """The detector of a training, with the weights it starts from; no report where they are random.

    Args:
        recipe: `model`, `image.size` and `seed` are used. A classifier's weights fill the backbone;
            the rest is new, drawn with the recipe's seed and nothing else. `model.head` says what
            becomes of a detector's class rows.
        class_names: of the data, by label.
        checkpoint: of the run that goes on: the model is its own, with the normalisation of the
            weights that the run started from, and nothing else is opened.
        quiet: show no line while weights arrive.

    Raises:
        ValueError: a setting out of range, or weights that do not fit.
        FileNotFoundError: there is no such file.
        RuntimeError: weights that cannot be downloaded. Never random weights instead.
    """
    if checkpoint is not None:
        return load_detector(recipe, class_names, checkpoint)
    settings = recipe.model
    config = configuration(recipe, len(class_names))
    require_statistics(recipe, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_detector(config)
    if settings.weights == "random":
        if settings.head == "map":
            raise ValueError("head=map keeps rows of weights, and model.weights=random has none")
        return model, None
    path = starting_file(settings, config, quiet=quiet)
    head = settings.head
    if open_source(path, ema=True, origin=settings.origin).origin in CLASSIFIERS:
        if head == "map":
            raise ValueError(
                f"head=map keeps rows of classes, and {path.name} is a classifier without those of"
                " a detector: leave it out"
            )
        head = "new"
    try:
        report = load_weights(model, path, head=head, classes=class_names, origin=settings.origin)
    except OtherClassesError as error:
        raise ValueError(other_classes(error, class_names, path, settings.head)) from None
    except OtherFormError as error:
        raise ValueError(f"{error}\n{keys_of(error.settings, config)}") from None
    require_learnable(model, report, settings.frozen)
    return model, report


def require_learnable(model: Detector, report: LoadReport, frozen: Sequence[str]) -> None:
    """Refuse to keep random values as they are, where weights are there to start from."""
    fixed = {name for name, one in model.network.named_parameters() if not one.requires_grad}
    both = [name for name in report.new if name in fixed]
    if both and frozen:
        parts = sorted({name.split(".")[0] for name in both})
        raise ValueError(
            f"model.frozen={list(frozen)}: {len(both)} tensors of it ({', '.join(parts)}) are not"
            f" taken from {report.path.name} and would keep their random values; leave"
            f" {' and '.join(parts)} out of model.frozen"
        )


def require_statistics(recipe: Recipe, config: Config) -> None:
    """Refuse a micro-batch of one value per channel, which has no variance to train with."""
    if not isinstance(config, EfficientDetConfig) or config.norm == "frozen":
        return
    cells = math.prod(level_size(config.image_size, config.max_level))
    if cells * recipe.micro_batch_size == 1:
        height, width = config.image_size
        raise ValueError(
            f"image.size {height}x{width} is one cell on the coarsest level of {config.name}: batch"
            " norms need more than one value per channel to train; micro_batch_size=2, a larger"
            " image.size or model.norm=frozen would do"
        )


def starting_file(settings: ModelSettings, config: Config, *, quiet: bool) -> Path:
    """Where the weights to start from lie; published ones are fetched.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it cannot be downloaded.
    """
    path = Path(settings.weights)
    if path.exists() or find_checkpoint(path) is not None:  # TensorFlow's is the start of names
        return path
    known = published_classifier(config) if settings.weights == "imagenet" else settings.weights
    if known in KNOWN:
        return fetch_published(known, quiet=quiet, otherwise="model.weights=FILE")
    near = difflib.get_close_matches(settings.weights, ["imagenet", "random", *KNOWN], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise FileNotFoundError(
        f"model.weights must be imagenet, random or a file, and there is no {path}{hint}"
    )


def published_classifier(config: Config) -> str:
    """What `imagenet` means for a detector's backbone."""
    if isinstance(config, EfficientDetConfig):
        name = "tf_" + config.backbone.replace("-", "_")
        return name if name in KNOWN else f"{name}_aa"
    return f"resnet{config.depth}"


def load_detector(
    recipe: Recipe, class_names: Sequence[Optional[str]], path: Path
) -> Tuple[Detector, LoadReport]:
    """The detector of an evaluation, complete: as a checkpoint of ours says, else as the recipe
    does.

    Args:
        recipe: says what others' weights cannot: variant, depth, size, stride.
        class_names: of the data, by label; the weights must have the same.
        path: a checkpoint, a run folder, or weights of others.

    Raises:
        ValueError: a classifier without a detection head, other classes, another form.
        FileNotFoundError: nothing is there.
    """
    source = open_source(path, ema=True, origin=recipe.model.origin)
    try:
        if source.record is None:
            model = build_detector(configuration(recipe, len(class_names)))
            return model, load_weights(
                model, source.path, classes=class_names, origin=recipe.model.origin
            )
        model, report = load_checkpoint(source.path)
        if isinstance(model.config, EfficientDetConfig):
            model.configure(postprocess=EVALUATION)
        if report.class_names not in (None, tuple(class_names)):
            names = tuple(name for name in report.class_names or () if name)
            raise OtherClassesError("", model.config.num_classes, names)
        return model, report
    except OtherClassesError as error:
        raise ValueError(other_classes(error, class_names)) from None
    except OtherFormError as error:
        config = configuration(recipe, len(class_names))
        raise ValueError(f"{error}\n{keys_of(error.settings, config)}") from None


def _overridden(part: Part, settings: Any) -> Part:
    """A part of a configuration with the values that a section of the recipe gives."""
    given: Dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            given[field.name] = tuple(value) if isinstance(value, list) else value
    return replace(part, **given)  # type: ignore[type-var]  # a dataclass


def _tuples(setting: Any) -> Any:
    """Lists as a configuration has them, at any depth."""
    return tuple(_tuples(one) for one in setting) if isinstance(setting, list) else setting
