"""A batch as one picture: what the model is shown, with what it is told about it.

B pictures of a batch, H, W pixels of the network's input.
"""

from __future__ import annotations

import math
from typing import Sequence

from PIL import Image

from data.collate import Batch
from data.drawing import draw

__all__ = ["contact_sheet"]

CELL = 320  # pixels of the longer side of a picture, at most
GAP = 4  # pixels between pictures
GROUND = (32, 32, 32)  # of the sheet: no picture's padding


def contact_sheet(batch: Batch, class_names: Sequence[str]) -> Image.Image:
    """Pictures row by row, as many beside as below each other.

    Args:
        batch: its padded boxes are not drawn, regions to ignore are called so.
        class_names: by label.
    """
    height, width = batch.images.shape[-2:]
    shrink = min(1.0, CELL / max(height, width))
    cell = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    columns = math.ceil(math.sqrt(len(batch.images)))
    rows = math.ceil(len(batch.images) / columns)
    size = (columns * (cell[0] + GAP) - GAP, rows * (cell[1] + GAP) - GAP)
    sheet = Image.new("RGB", size, GROUND)
    for number, image in enumerate(batch.images):
        real = (batch.boxes[number] != 0).any(dim=-1)  # (G,)
        boxes = [(box[0], box[1], box[2], box[3]) for box in batch.boxes[number][real].tolist()]
        labels = batch.labels[number][real].tolist()
        texts = ["ignored" if label < 0 else class_names[label] for label in labels]
        picture = draw(image, boxes, labels, texts)
        down, along = divmod(number, columns)
        small = picture if shrink == 1 else picture.resize(cell, Image.Resampling.BILINEAR)
        sheet.paste(small, (along * (cell[0] + GAP), down * (cell[1] + GAP)))
    return sheet
