"""One picture file -> RGB pixels, upright; every oddity of files ends here.

H, W pixels of the picture after EXIF rotation.
"""

from __future__ import annotations

import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = ["MAX_PIXELS", "UnreadableImageError", "large_images", "read_image", "to_rgb"]

MAX_PIXELS = 500_000_000  # 1.5 GB as RGB; a panorama of 12 000 x 9 000 has 108 million


changing = threading.Lock()
opened: List[None] = []  # one for each `large_images` under way
before: List[Optional[int]] = []  # Pillow's own limit, while any is


class UnreadableImageError(ValueError):
    """A file that is no picture, or a broken one; the message is the reason, without the path."""


def read_image(path: Path) -> Tensor:
    """Decode a picture: first frame, EXIF rotation applied, converted to 8-bit RGB.

    Returns:
        (3, H, W) uint8, a view of (H, W, 3) memory.

    Raises:
        UnreadableImageError: not a picture, truncated, or of a kind without a known range of
            values.
    """
    try:
        with large_images(), Image.open(path) as file:
            file.load()
            picture = to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError:
        raise UnreadableImageError(not_an_image(path)) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"more than {2 * MAX_PIXELS} pixels: {error}") from None
    except (OSError, SyntaxError, EOFError, ValueError, struct.error) as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from None
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def not_an_image(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    return f"not an image (starts with {start!r})" if start else "empty file"


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any of Pillow's modes as 8-bit RGB.

    16-bit grey keeps its upper 8 bits' worth (v / 257, rounded); transparent pixels lie on white,
    as viewers show them; CMYK by Pillow's conversion.

    Raises:
        UnreadableImageError: 32-bit pixels, whose range no file states.
    """
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(
                f"32-bit pixels (mode {picture.mode}): their range is not known"
            )
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 -> 255
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


@contextmanager
def large_images() -> Iterator[None]:
    """Let Pillow read pictures of up to `MAX_PIXELS` without a warning, in the whole process, while
    this is open somewhere.
    """
    with changing:
        if not before:
            before.append(Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        opened.append(None)
    try:
        yield
    finally:
        with changing:
            opened.pop()
            if not opened:
                Image.MAX_IMAGE_PIXELS = before.pop()
