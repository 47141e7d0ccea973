"""Boxes: area, IoU, clipping, deltas."""

from __future__ import annotations

import math

import pytest
import torch

from detectors.boxes import (
    SCALE_CLAMP,
    box_area,
    box_intersection,
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
)

ANCHOR = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 px wide, 40 px high


def test_area_is_width_times_height() -> None:
    assert box_area(ANCHOR).tolist() == [800.0]


def test_iou_of_half_overlapping_squares_is_a_third() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    torch.testing.assert_close(box_iou(a, b), torch.tensor([[1 / 3, 1.0, 0.0]]))


def test_iou_of_empty_boxes_is_zero() -> None:
    empty = torch.zeros(1, 4)
    assert box_iou(empty, empty).tolist() == [[0.0]]


def test_clip_uses_width_for_x_and_height_for_y() -> None:
    boxes = torch.tensor([[-5.0, -5.0, 500.0, 500.0]])
    assert clip_boxes(boxes, (100, 200)).tolist() == [[0.0, 0.0, 200.0, 100.0]]


def test_decode_shifts_by_anchor_size() -> None:
    boxes = decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), ANCHOR)
    torch.testing.assert_close(boxes, torch.tensor([[20.0, 20.0, 40.0, 60.0]]))
    boxes = decode_boxes(torch.tensor([[0.0, 0.5, 0.0, 0.0]]), ANCHOR)
    torch.testing.assert_close(boxes, torch.tensor([[10.0, 40.0, 30.0, 80.0]]))


def test_decode_scales_about_the_centre() -> None:
    boxes = decode_boxes(torch.tensor([[0.0, 0.0, math.log(2), math.log(0.5)]]), ANCHOR)
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 30.0, 40.0, 50.0]]))


def test_decode_undoes_encode() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 50, 2, generator=generator) * 400
    boxes = torch.cat([corner, corner + torch.rand(2, 50, 2, generator=generator) * 99 + 1], -1)
    anchors = boxes.flip(0)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes)


def test_intersection_is_in_square_pixels() -> None:
    a = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    b = torch.tensor([[1.0, 2.0, 9.0, 9.0], [4.0, 0.0, 8.0, 4.0]])  # the second only touches
    assert box_intersection(a, b).tolist() == [[6.0, 0.0]]


def test_decode_limits_growth_if_asked_to() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    grown = decode_boxes(torch.tensor([[0.0, 0.0, 9.0, 0.0]]), anchor, SCALE_CLAMP)
    torch.testing.assert_close(grown, torch.tensor([[-492.0, 0.0, 508.0, 16.0]]))  # 1000 px wide


def test_coding_equals_torchvisions() -> None:
    utils = pytest.importorskip("torchvision.models.detection._utils")
    coder = utils.BoxCoder((1.0, 1.0, 1.0, 1.0))
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(2, 40, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + torch.rand(2, 40, 2, generator=generator) * 90 + 2], -1)
    deltas = encode_boxes(boxes[0], boxes[1])
    torch.testing.assert_close(deltas, coder.encode_single(boxes[0], boxes[1]))
    deltas = deltas * 3
    torch.testing.assert_close(
        decode_boxes(deltas, boxes[1], SCALE_CLAMP), coder.decode_single(deltas, boxes[1])
    )
