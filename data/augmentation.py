"""What training changes about a picture, drawn from (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Tuple

from data.collate import Placed
from data.colours import ColourJitter, jitter_colours
from data.fitting import Fit, put
from data.randomness import generator, key_of
from data.sample import Sample

__all__ = ["Augmentation", "augment_sample"]


@dataclass(frozen=True)
class Augmentation:
    """How far; the defaults change nothing."""

    flip: float = 0.0
    """Probability of mirroring left to right."""
    scale: Tuple[float, float] = (1.0, 1.0)
    """Range of a factor on the fitted size. The canvas stays: above 1 the picture may be cut."""
    scale_probability: float = 1.0
    """Of drawing that factor; else it is 1 and the picture lies at the top left."""
    anywhere: bool = False
    """A scaled picture lies anywhere on the canvas; else in the middle (Graphcore's)."""
    colour: ColourJitter = field(default_factory=ColourJitter)
    """Of the picture, not of what surrounds it."""

    def __post_init__(self) -> None:
        for name in ("flip", "scale_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be 0..1, got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"augment.scale must be [low, high] above 0, got {list(self.scale)}")


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
    random = generator(seed, epoch, index)
    mirror, jitter, share, edge, right, below = (float(value) for value in random.random(6))
    image = jitter_colours(sample.image, settings.colour, random)
    target, offset = fit.target(sample.original_size, edge=edge), (0, 0)
    if settings.scale != (1.0, 1.0) and jitter < settings.scale_probability:
        low, high = settings.scale
        factor = low + (high - low) * share
        target = fit.target(sample.original_size, edge=edge, factor=factor)
        room = (fit.size[1] - target.size[1], fit.size[0] - target.size[0])
        at = (right, below) if settings.anywhere else (0.5, 0.5)
        offset = (round(at[0] * room[0]), round(at[1] * room[1]))
    return put(
        Sample(image, sample.name, sample.image_id, sample.boxes, sample.labels),
        fit,
        target,
        offset=offset,
        flip=mirror < settings.flip,
        key=key_of(seed, epoch, index),
    )
