"""Boxes and names drawn on pictures.

H, W pixels of the picture, N boxes.
"""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Sequence, Tuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["colour_of", "draw", "drawing_path", "save_drawing"]

Colour = Tuple[int, int, int]

JPEG_QUALITY = 90
KEPT = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Extensions that a drawing keeps; others (gif: 256 colours) get `.png` behind them."""
GOLDEN_ANGLE = 0.381966  # of a turn: neighbouring labels get hues far apart


def colour_of(label: int) -> Colour:
    """A label's colour, the same in every run; light enough for black text."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_ANGLE % 1, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    image: Tensor,
    boxes: Sequence[Tuple[float, float, float, float]],
    labels: Sequence[int],
    texts: Sequence[str],
    stamp: str = "",
) -> Image.Image:
    """Draw boxes and what they are, the first on top.

    Line and letters grow with the picture (2 px at 640), so that they are seen on a panorama too.

    Args:
        image: (3, H, W) uint8, RGB.
        boxes: N boxes, xyxy pixels of the image.
        labels: N labels, for the colours.
        texts: N texts; each gets a filled strip above its box, or inside it at the image's top
            edge.
        stamp: written in the lower left corner, over everything.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    canvas = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 320))
    font = ImageFont.load_default(size=max(12, line * 6))
    for box, label, text in reversed(list(zip(boxes, labels, texts))):
        colour = colour_of(label)
        x1, y1, x2, y2 = box
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
        _, top, width, bottom = canvas.textbbox((0, 0), text, font=font)
        height = bottom - top + 2 * line
        left = max(0.0, min(x1, picture.width - width - 2 * line))
        above = y1 - height if y1 >= height else max(0.0, y1)
        canvas.rectangle((left, above, left + width + 2 * line, above + height), fill=colour)
        canvas.text((left + line, above + line - top), text, fill="black", font=font)
    if stamp:
        left, top, right, bottom = canvas.textbbox(
            (0, picture.height), stamp, font=font, anchor="lb"
        )
        canvas.rectangle((left, top - line, right + line, bottom), fill="black")
        canvas.text((0, picture.height), stamp, fill="white", font=font, anchor="lb")
    return picture


def drawing_path(folder: Path, name: str) -> Path:
    """Where the drawing of a picture goes: its own relative path, below `folder`.

    Args:
        folder: of the drawings.
        name: `Sample.name`, parts joined by '/'.
    """
    path = folder / name
    return path if path.suffix.lower() in KEPT else path.with_name(path.name + ".png")


def save_drawing(picture: Image.Image, path: Path) -> None:
    """Write a drawing in the format of its extension; makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".webp")
    if lossy:
        picture.save(path, quality=JPEG_QUALITY)
    else:
        picture.save(path)
