"""A recipe's `auto` and null settings as values."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Tuple

if TYPE_CHECKING:
    from detectors.experiment.recipe import Recipe

__all__ = ["image_size", "resolve"]


def image_size(recipe: Recipe) -> Tuple[int, int]:
    """(height, width) of the network's input, pixels."""
    size = recipe.image.size
    if size is None:
        return model_size(recipe.model.name)
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def model_size(name: str) -> Tuple[int, int]:
    """(height, width) that a model is made for."""
    from detectors.models.efficientdet.config import CONFIGS as EFFICIENTDETS
    from detectors.models.faster_rcnn.config import FasterRCNNConfig

    if name in EFFICIENTDETS:
        return EFFICIENTDETS[name].image_size
    return FasterRCNNConfig().image_size


def resolve(recipe: Recipe) -> Recipe:
    """A copy with what `image.size`, `model.norm`, `model.frozen_stages`, `model.survival` and the
    nulls of anchors and heads come to.

    Of Faster R-CNN, trunks that start from random weights are trained whole, batch norms too;
    others keep their batch norms and first two stages. `device=auto` stays: it is no property of
    the recipe.
    """
    made = deepcopy(recipe)
    if made.image.size is None:
        made.image.size = list(image_size(made))
    (resolve_faster_rcnn if made.model.name == "faster_rcnn" else resolve_efficientdet)(made)
    return made


def resolve_efficientdet(recipe: Recipe) -> None:
    """In place."""
    from detectors.experiment.recipe import Norm  # which offers this module's functions, too
    from detectors.models.efficientdet.config import CONFIGS

    settings = recipe.model
    config = CONFIGS[settings.name]
    if settings.norm is Norm.auto:
        settings.norm = Norm.batch
    if settings.survival is None:
        settings.survival = config.survival
    pyramid = settings.pyramid
    pyramid.scale = config.anchor_scale if pyramid.scale is None else pyramid.scale
    pyramid.octaves = config.anchor_octaves if pyramid.octaves is None else pyramid.octaves
    pyramid.aspects = config.anchor_aspects if pyramid.aspects is None else pyramid.aspects


def resolve_faster_rcnn(recipe: Recipe) -> None:
    """In place."""
    from detectors.experiment.recipe import Norm  # which offers this module's functions, too
    from detectors.models.faster_rcnn.config import CONFIGS

    settings = recipe.model
    random = settings.weights == "random"
    if settings.norm is Norm.auto:
        settings.norm = Norm.batch if random else Norm.frozen
    if settings.frozen_stages is None:
        settings.frozen_stages = 0 if random else 2
    variant = CONFIGS[settings.variant]
    for part, values in (
        (settings.anchors, variant.anchors),
        (settings.rpn, variant.rpn),
        (settings.box_head, variant.box_head),
    ):
        fill_in(part, values)


def fill_in(settings: Any, part: Any) -> None:
    """Replace each null by the part's value of the same name."""
    for field in fields(settings):
        if getattr(settings, field.name) is None:
            value = getattr(part, field.name)
            setattr(settings, field.name, list(value) if isinstance(value, tuple) else value)
