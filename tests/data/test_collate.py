"""Batches of fixed shape, and boxes there and back."""

from __future__ import annotations

from typing import List

import pytest
import torch

from data.collate import Placement, collate, to_original
from data.sample import Sample


def sample(height: int, width: int, boxes: List[List[float]], name: str = "a") -> Sample:
    return Sample(
        torch.zeros(3, height, width, dtype=torch.uint8),
        name,
        1,
        torch.tensor(boxes).reshape(-1, 4),
        torch.arange(len(boxes)),
    )


def test_boxes_go_to_the_network_and_back() -> None:
    boxes = [[0.0, 0.0, 640.0, 480.0], [10.0, 20.0, 33.0, 47.0]]
    batch = collate([sample(480, 640, boxes)], (512, 512), max_boxes=2)
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([0.0, 0.0, 512.0, 384.0]))
    back = to_original(batch.boxes[0], batch.placements[0])
    torch.testing.assert_close(back, torch.tensor(boxes))


def test_boxes_are_clipped_to_the_picture() -> None:
    placement = Placement("a", 1, (50, 100), 2.0)
    boxes = to_original(torch.tensor([[-10.0, 20.0, 300.0, 400.0]]), placement)
    assert boxes.tolist() == [[0.0, 10.0, 100.0, 50.0]]


def test_short_lists_are_padded_with_ignored_boxes() -> None:
    samples = [sample(8, 8, []), sample(8, 16, [[1.0, 2.0, 3.0, 4.0]], "b")]
    images, boxes, labels, placements = collate(samples, (16, 16), max_boxes=3)
    assert images.shape == (2, 3, 16, 16)
    assert boxes.tolist() == [[[0.0] * 4] * 3, [[1.0, 2.0, 3.0, 4.0], [0.0] * 4, [0.0] * 4]]
    assert labels.tolist() == [[-1, -1, -1], [0, -1, -1]]
    assert [(p.name, p.scale) for p in placements] == [("a", 2.0), ("b", 1.0)]


def test_more_boxes_than_places_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="max_boxes is 1, but 'a' has 2 boxes"):
        collate([sample(8, 8, [[0.0, 0.0, 1.0, 1.0]] * 2)], (8, 8), max_boxes=1)
