"""Batches of fixed shape, and boxes there and back."""

from __future__ import annotations

from typing import List, Sequence

import torch

from data.collate import Placed, Placement, collate, to_original
from data.fitting import Fit, fit_sample
from data.sample import Sample

INSIDE = Placement("a", 1, (8, 8), 1.0)


def sample(height: int, width: int, boxes: List[List[float]], name: str = "a") -> Sample:
    return Sample(
        torch.zeros(3, height, width, dtype=torch.uint8),
        name,
        1,
        torch.tensor(boxes).reshape(-1, 4),
        torch.arange(len(boxes)),
    )


def placed(boxes: Sequence[Sequence[float]], labels: Sequence[int], key: int = 0) -> Placed:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Placed(image, corners, torch.tensor(labels, dtype=torch.int64), key, INSIDE)


def test_boxes_go_to_the_network_and_back() -> None:
    boxes = [[0.0, 0.0, 640.0, 480.0], [10.0, 20.0, 33.0, 47.0]]
    batch = collate([fit_sample(sample(480, 640, boxes), Fit((512, 512)))], max_boxes=2)
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([0.0, 0.0, 512.0, 384.0]))
    back = to_original(batch.boxes[0], batch.placements[0])
    torch.testing.assert_close(back, torch.tensor(boxes))


def test_boxes_are_clipped_to_the_picture() -> None:
    placement = Placement("a", 1, (50, 100), 2.0)
    boxes = to_original(torch.tensor([[-10.0, 20.0, 300.0, 400.0]]), placement)
    assert boxes.tolist() == [[0.0, 10.0, 100.0, 50.0]]


def test_the_way_back_knows_stretch_offset_and_mirror() -> None:
    # 100 x 50 pixels, twice as large downwards and four times sideways, moved by (8, -6), mirrored:
    # x 10..30 from the left is 70..90 mirrored, so 288..368 in the network's input.
    placement = Placement("a", 1, (50, 100), 2.0, stretch=2.0, offset=(8.0, -6.0), flipped=True)
    boxes = to_original(torch.tensor([[288.0, 4.0, 368.0, 34.0]]), placement)
    assert boxes.tolist() == [[10.0, 5.0, 30.0, 20.0]]


def test_short_lists_are_padded_with_ignored_boxes() -> None:
    batch = collate([placed([], []), placed([[1, 2, 3, 4]], [5])], max_boxes=3)
    assert batch.images.shape == (2, 3, 8, 8)
    assert batch.images.dtype == torch.uint8
    assert batch.boxes.tolist() == [[[0.0] * 4] * 3, [[1.0, 2.0, 3.0, 4.0], [0.0] * 4, [0.0] * 4]]
    assert batch.labels.tolist() == [[-1, -1, -1], [5, -1, -1]]
    assert batch.overflow == 0


def test_a_crowd_keeps_its_box_and_label_minus_one() -> None:
    batch = collate([placed([[1, 2, 3, 4]], [-1])], max_boxes=2)
    assert batch.labels.tolist() == [[-1, -1]]
    assert batch.boxes[0].tolist() == [[1.0, 2.0, 3.0, 4.0], [0.0] * 4]


def test_overflow_is_counted_and_the_largest_boxes_stay_in_order() -> None:
    boxes = [[0, 0, 8, 8], [0, 0, 1, 1], [0, 0, 3, 3], [0, 0, 2, 2]]
    batch = collate([placed(boxes, [-1, 1, 2, 3]), placed([], [])], max_boxes=2)
    assert batch.labels.tolist() == [[2, 3], [-1, -1]]  # the crowd goes first, however large
    assert batch.boxes[0].tolist() == [[0, 0, 3, 3], [0, 0, 2, 2]]
    assert batch.overflow == 2


def test_tensors_are_what_a_training_forward_takes() -> None:
    images, boxes, labels, keys = collate([placed([], [], key=2**31 - 1)], max_boxes=1).tensors
    assert (images.dtype, boxes.dtype) == (torch.uint8, torch.float32)
    assert (labels.dtype, keys.dtype) == (torch.int32, torch.int32)
    assert keys.tolist() == [2**31 - 1]
