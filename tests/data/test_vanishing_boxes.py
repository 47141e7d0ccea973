"""Boxes of which nothing is left in float32: the logarithm of their sides would be infinite."""

from __future__ import annotations

import torch

from data.augmentation import Augmentation
from data.fitting import Fit, put
from data.mosaic import make_mosaic
from data.sample import Sample

NEXT = 100 + 2.0**-17  # the next number after 100 in float32; there is none in between 500 and 501


def sample() -> Sample:
    """200 x 200, a box as wide as float32 can tell, and another."""
    boxes = torch.tensor([[100, 10, NEXT, 90], [20, 20, 60, 60]], dtype=torch.float32)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    return Sample(torch.zeros(3, 200, 200, dtype=torch.uint8), "a", 1, boxes, torch.tensor([0, 1]))


def test_a_box_that_moves_to_where_it_has_no_width_is_cut() -> None:
    fit = Fit((600, 600))
    placed = put(sample(), fit, Fit((200, 200)).target((200, 200)), offset=(400, 0))
    assert placed.boxes.tolist() == [[420, 20, 460, 60]]
    assert (placed.labels.tolist(), placed.placement.cut) == ([1], 1)


def test_in_a_mosaic_too() -> None:
    settings = Augmentation(scale=(0.25, 0.25))  # a picture of 800 in the input of 800
    numbers = {"seed": 0, "epoch": 0, "index": 0}
    placed = make_mosaic([sample()] * 4, Fit((800, 800)), settings, **numbers)
    sides = placed.boxes[:, 2:] - placed.boxes[:, :2]
    assert (sides > 0).all()
    assert len(placed.boxes) + placed.placement.cut == 8
    assert placed.labels.tolist().count(1) == 4
