"""Colour jitter: brightness, contrast and saturation, drawn for one picture.

Graphcore's Faster R-CNN adds a number from -1 to 1 to pixels of 0..1 and clips nothing, which turns
half of its pictures black or white. Here the shift is small and the result stays a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["ColourJitter", "jitter_colours"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: grey of RGB


@dataclass(frozen=True)
class ColourJitter:
    """How far colours may go; the defaults change nothing."""

    probability: float = 0.5
    """Of touching a picture at all."""
    brightness: float = 0.0
    """Added to all pixels: -brightness..brightness, as a fraction of white."""
    contrast: Tuple[float, float] = (1.0, 1.0)
    """Range of the factor around the picture's mean grey."""
    saturation: Tuple[float, float] = (1.0, 1.0)
    """Range of the factor around each pixel's grey."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"colour.probability must be 0..1, got {self.probability}")
        if not 0 <= self.brightness < 1:
            raise ValueError(f"colour.brightness must be 0 <= b < 1, got {self.brightness}")
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"colour.{name} must be [low, high] from 0, got {[low, high]}")


def jitter_colours(image: Tensor, settings: ColourJitter, random: np.random.Generator) -> Tensor:
    """One picture, changed or not; always draws four numbers.

    Args:
        image: (3, h, w) uint8, RGB.
        settings: how far.
        random: of this picture.

    Returns:
        (3, h, w) uint8.
    """
    chance, bright, contrasting, saturated = random.random(4)
    shift = 255 * settings.brightness * (2 * bright - 1)
    contrast = between(settings.contrast, contrasting)
    saturation = between(settings.saturation, saturated)
    if chance >= settings.probability or (shift, contrast, saturation) == (0.0, 1.0, 1.0):
        return image
    pixels = image.float()
    weights = torch.tensor(LUMA)[:, None, None]
    if saturation != 1:
        grey = (pixels * weights).sum(dim=0)
        pixels = grey + (pixels - grey) * saturation
    if contrast != 1:
        middle = (pixels * weights).sum(dim=0).mean()
        pixels = middle + (pixels - middle) * contrast
    changed: Tensor = (pixels + shift).round().clamp(0, 255).to(torch.uint8)
    return changed


def between(limits: Tuple[float, float], share: float) -> float:
    low, high = limits
    return low + (high - low) * float(share)
