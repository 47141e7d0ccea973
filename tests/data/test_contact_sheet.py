"""A batch as one picture."""

from __future__ import annotations

import numpy as np
import torch

from data.collate import Batch
from data.contact_sheet import CELL, GAP, GROUND, contact_sheet
from data.drawing import colour_of


def batch(count: int, size: int) -> Batch:
    """Grey pictures, 10 darker than 20 darker than ..., each with one box and one padded."""
    images = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    images += (10 * torch.arange(1, count + 1, dtype=torch.uint8))[:, None, None, None]
    boxes = torch.zeros(count, 2, 4)
    boxes[:, 0] = torch.tensor([0.25, 0.5, 0.75, 0.75]) * size
    labels = torch.tensor([[1, -1]] * count, dtype=torch.int32)
    return Batch(images, boxes, labels, torch.zeros(count, dtype=torch.int32), [], 0)


def test_pictures_lie_row_by_row_with_their_boxes() -> None:
    sheet = contact_sheet(batch(5, 64), ["cat", "dog"])
    step = 64 + GAP
    assert sheet.size == (3 * step - GAP, 2 * step - GAP)
    pixels = np.array(sheet)
    for number in range(5):
        row, column = divmod(number, 3)
        cell = pixels[row * step : row * step + 64, column * step : column * step + 64]
        assert (cell[0, 0] == 10 * (number + 1)).all()
        assert (cell[60:, :] == 10 * (number + 1)).all()  # nothing drawn for what is padded
        assert cell[47, 32].tolist() == list(colour_of(1))  # the box's last row
    assert (pixels[step:, 2 * step :] == GROUND).all()  # no sixth picture
    assert (pixels[64:step] == GROUND).all()


def test_large_pictures_are_made_smaller() -> None:
    sheet = contact_sheet(batch(1, 2 * CELL), ["cat", "dog"])
    assert sheet.size == (CELL, CELL)
    red, green, blue = np.array(sheet)[CELL * 3 // 4 - 1, CELL // 2].tolist()
    assert green > 150 > max(red, blue)  # the box's last row, as green as it was


def test_a_region_to_ignore_is_called_so_and_has_no_class() -> None:
    ignored = batch(1, 200)
    ignored.labels[0, 0] = -1
    drawn = np.array(contact_sheet(ignored, []))
    assert tuple(drawn[149, 100]) == colour_of(-1)
