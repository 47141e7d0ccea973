"""What training changes about a picture, drawn from (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Tuple

import numpy as np

from data.collate import Placed
from data.colours import ColourJitter, jitter_colours
from data.fitting import Fit, Target, put
from data.randomness import generator, key_of
from data.sample import Sample

__all__ = ["PLACES", "Augmentation", "View", "augment_sample", "draw_view"]

PLACES = ("middle", "anywhere", "corner")


@dataclass(frozen=True)
class Augmentation:
    """How far; the defaults change nothing."""

    flip: float = 0.0
    """Probability of mirroring left to right."""
    scale: Tuple[float, float] = (1.0, 1.0)
    """Range of a factor on the fitted size. The canvas stays: above 1 the picture may be cut."""
    scale_probability: float = 1.0
    """Of drawing that factor; else it is 1 and the picture lies at the top left."""
    place: str = "middle"
    """Where a scaled picture lies. middle: of the canvas (Graphcore's). anywhere: drawn. corner:
    AutoML's, a part of it is drawn along the sides that the canvas cuts, else it lies at the top
    left, as in evaluation. (AutoML's training resizes without antialiasing, `Fit.resample` "pil"
    with: what `scale` makes small here is smooth, there grainy.)
    """
    colour: ColourJitter = field(default_factory=ColourJitter)
    """Of the picture, not of what surrounds it."""
    mosaic: float = 0.0
    """Probability of a picture of four; see `data.mosaic`."""
    mosaic_close: float = 0.0
    """Share of the run, at its end, without such pictures: 0..1."""

    def __post_init__(self) -> None:
        for name in ("flip", "scale_probability", "mosaic", "mosaic_close"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be 0..1, got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"augment.scale must be [low, high] above 0, got {list(self.scale)}")
        if self.place not in PLACES:
            raise ValueError(
                f"augment.place must be one of {', '.join(PLACES)}, got '{self.place}'"
            )


class View(NamedTuple):
    """What was drawn for a picture, whatever it is placed in."""

    sample: Sample
    """With its colours changed."""
    target: Target
    """How large it becomes."""
    scaled: bool
    """Whether a factor was drawn."""
    flip: bool
    """Whether it is mirrored."""
    shares: Tuple[float, float]
    """Which part of the room beside it, or of what is too much, lies left and above: 0..1."""


def augment_sample(
    sample: Sample, fit: Fit, settings: Augmentation, *, seed: int, epoch: int, index: int
) -> Placed:
    """One picture for training.

    Args:
        sample: on disk.
        fit: the network's input.
        settings: how far.
        seed, epoch, index: all that the result depends on besides.
    """
    view = draw_view(sample, fit, settings, generator(seed, epoch, index))
    offset = offset_of(view, fit, settings.place) if view.scaled else (0, 0)
    key = key_of(seed, epoch, index)
    return put(view.sample, fit, view.target, offset=offset, flip=view.flip, key=key)


def draw_view(
    sample: Sample, fit: Fit, settings: Augmentation, random: np.random.Generator
) -> View:
    """Draw all that is changed about a picture, and change its colours.

    Args:
        sample: on disk.
        fit: what its size without a factor follows from.
        settings: how far.
        random: of this picture; always gives ten numbers.
    """
    mirror, jitter, share, edge, right, below = (float(value) for value in random.random(6))
    image = jitter_colours(sample.image, settings.colour, random)
    scaled, factor = settings.scale != (1.0, 1.0) and jitter < settings.scale_probability, 1.0
    if scaled:
        low, high = settings.scale
        factor = low + (high - low) * share
    return View(
        Sample(image, sample.name, sample.image_id, sample.boxes, sample.labels),
        fit.target(sample.original_size, edge=edge, factor=factor),
        scaled,
        mirror < settings.flip,
        (right, below),
    )


def offset_of(view: View, fit: Fit, place: str) -> Tuple[int, int]:
    """(x, y) of a scaled picture's top left corner on the canvas."""
    room = (fit.size[1] - view.target.size[1], fit.size[0] - view.target.size[0])
    if place == "corner":
        room = (min(room[0], 0), min(room[1], 0))
    at = (0.5, 0.5) if place == "middle" else view.shares
    return round(at[0] * room[0]), round(at[1] * room[1])
