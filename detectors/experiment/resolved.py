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
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def resolve(recipe: Recipe) -> Recipe:
    """A copy with what `model.norm`, `model.frozen_stages` and the variant's settings come to.

    Trunks that start from random weights are trained whole, batch norms too; others keep their
    batch norms and first two stages. `device=auto` stays: it is no property of the recipe.
    """
    from detectors.experiment.recipe import Norm  # which offers this function, too
    from detectors.models.faster_rcnn.config import CONFIGS

    made = deepcopy(recipe)
    random = made.model.weights == "random"
    if made.model.norm is Norm.auto:
        made.model.norm = Norm.batch if random else Norm.frozen
    if made.model.frozen_stages is None:
        made.model.frozen_stages = 0 if random else 2
    variant = CONFIGS[made.model.variant]
    for settings, part in (
        (made.model.anchors, variant.anchors),
        (made.model.rpn, variant.rpn),
        (made.model.box_head, variant.box_head),
    ):
        fill_in(settings, part)
    return made


def fill_in(settings: Any, part: Any) -> None:
    """Replace each null by the part's value of the same name."""
    for field in fields(settings):
        if getattr(settings, field.name) is None:
            value = getattr(part, field.name)
            setattr(settings, field.name, list(value) if isinstance(value, tuple) else value)
