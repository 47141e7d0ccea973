"""Pictures into the network's fixed input size, and the scale that leads back.

The picture keeps its aspect ratio, lies at the top left, and the rest is filled with one colour
(letterbox), as in EfficientDet's training. h, w pixels of the picture; H, W of the network's input.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["BLACK", "MEAN_COLOUR", "RESAMPLES", "letterbox", "resize_half_pixel", "resize_pillow"]

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean as uint8: zero after normalisation, as in training
BLACK = (0, 0, 0)  # what Graphcore's EfficientDet pads with; about -2 after normalisation


def resize_pillow(image: Tensor, size: Tuple[int, int]) -> Tensor:
    """Pillow's bilinear resize: averages over the source area when it shrinks (antialiased).
    effdet's choice.

    Args:
        image: (3, h, w) uint8.
        size: (height, width) of the result.

    Returns:
        (3, height, width) uint8.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def resize_half_pixel(image: Tensor, size: Tuple[int, int]) -> Tensor:
    """Bilinear with half-pixel centres and no antialiasing, as TensorFlow 2 resizes. AutoML's
    choice.

    Equal to `interpolate(mode="bilinear", align_corners=False)` rounded to uint8 (AutoML keeps the
    fraction), but it touches only the source rows and columns that it needs: a 100-megapixel
    panorama stays uint8.

    Args:
        image: (3, h, w) uint8.
        size: (height, width) of the result.

    Returns:
        (3, height, width) uint8.
    """
    top, bottom, down = source_lines(image.shape[1], size[0])
    left, right, along = source_lines(image.shape[2], size[1])
    down = down[:, None]  # (height, 1)
    upper, lower = image[:, top], image[:, bottom]  # (3, height, w) uint8
    at_left = (
        upper[:, :, left] * (1 - down) + lower[:, :, left] * down
    )  # (3, height, width) float32
    at_right = upper[:, :, right] * (1 - down) + lower[:, :, right] * down
    return (at_left * (1 - along) + at_right * along).round().to(torch.uint8)


def source_lines(length: int, new_length: int) -> Tuple[Tensor, Tensor, Tensor]:
    """The two source lines of each new line, (new_length,) int64 each, and the share of the second,
    float32.
    """
    centre = (torch.arange(new_length, dtype=torch.float64) + 0.5) * (length / new_length) - 0.5
    centre = centre.clamp(min=0, max=length - 1)
    first = centre.floor()
    second = (first + 1).clamp(max=length - 1)
    return first.long(), second.long(), (centre - first).float()


RESAMPLES = {"pil": resize_pillow, "tf": resize_half_pixel}
"""How a picture was resized when the weights were trained or evaluated -> the function that does
it.
"""


def letterbox(
    image: Tensor,
    size: Tuple[int, int],
    *,
    resample: str = "pil",
    pad: Tuple[int, int, int] = MEAN_COLOUR,
) -> Tuple[Tensor, float]:
    """Fit a picture into the network's input without changing its aspect ratio.

    Scale s = min(H/h, W/w); the new size is truncated to integers; the picture lies at the top
    left.

    Args:
        image: (3, h, w) uint8, RGB.
        size: (H, W) of the network's input.
        resample: key of `RESAMPLES`.
        pad: colour of the rest, RGB 0..255.

    Returns:
        (3, H, W) uint8, and s: boxes in the network's pixels divided by s are in the picture's.

    Raises:
        ValueError: unknown `resample`, or an image that is not (3, h, w) uint8.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be (3, h, w) uint8, got {tuple(image.shape)} {image.dtype}")
    if resample not in RESAMPLES:
        raise ValueError(f"resample must be one of {sorted(RESAMPLES)}, got '{resample}'")
    height, width = image.shape[1:]
    scale = min(size[0] / height, size[1] / width)
    new_size = (max(1, int(height * scale)), max(1, int(width * scale)))
    resized = image if new_size == (height, width) else RESAMPLES[resample](image, new_size)
    canvas = torch.tensor(pad, dtype=torch.uint8)[:, None, None].repeat(1, *size)  # (3, H, W)
    canvas[:, : new_size[0], : new_size[1]] = resized
    return canvas, scale
