"""EfficientDet's targets and losses: by hand on four anchors, and whatever the levels are."""

from __future__ import annotations

import math
from typing import List

import pytest
import torch

from detectors.losses import focal, huber
from detectors.models.efficientdet.config import LossConfig
from detectors.models.efficientdet.criterion import Targets, assign_targets, box_loss, class_loss

ANCHORS = torch.tensor(
    [
        [0.0, 0.0, 10.0, 10.0],
        [0.0, 0.0, 10.0, 20.0],
        [40.0, 40.0, 50.0, 50.0],
        [80.0, 80.0, 90.0, 90.0],
    ]
)


def targets_of(boxes: List[List[float]], labels: List[int]) -> Targets:
    return assign_targets(ANCHORS, torch.tensor([boxes]), torch.tensor([labels]).int())


def test_anchors_get_class_and_deltas_of_their_box() -> None:
    # IoU 1 and 0.5 with the first two anchors; the second box is 0.05 with the third, its best
    found = targets_of([[0.0, 0.0, 10.0, 10.0], [45.0, 45.0, 50.0, 46.0]], [2, 7])
    assert found.positive[0].tolist() == [True, True, True, False]
    assert found.labels[0, :3].tolist() == [2, 2, 7]
    assert found.valid.all()
    # (dx, dy, dw, dh): the centre moves in anchor sizes, the sides by the log of their ratio
    expected = [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, -0.25, 0.0, math.log(0.5)],
        [0.25, 0.05, math.log(0.5), math.log(0.1)],
        [0.0, 0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(found.deltas[0], torch.tensor(expected))


def test_half_an_overlap_is_an_object_and_less_is_background() -> None:
    boxes = [[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 44.9]]  # the third anchor: 0.49, forced
    found = targets_of(boxes, [0, 0])
    assert found.positive[0].tolist() == [True, True, True, False]
    found = targets_of([[0.0, 0.0, 10.0, 9.9]], [0])  # the second anchor: 0.495
    assert found.positive[0].tolist() == [True, False, False, False]
    assert found.valid.all()  # nothing between object and background


def test_anchors_in_a_region_to_ignore_have_no_part_in_the_loss() -> None:
    found = targets_of([[0.0, 0.0, 10.0, 10.0], [35.0, 35.0, 60.0, 60.0]], [1, -1])
    assert found.valid[0].tolist() == [True, True, False, True]
    assert found.positive[0].tolist() == [True, True, False, False]
    logits = torch.zeros(1, 4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(class_loss([logits], found, LossConfig()), logits)
    assert (gradient[0] != 0).any(dim=-1).tolist() == [True, True, False, True]


def test_padding_is_background() -> None:
    found = targets_of([[0.0] * 4, [0.0] * 4], [-1, -1])
    assert not found.positive.any()
    assert found.valid.all()
    assert found.deltas.abs().sum() == 0
    logits, deltas = torch.zeros(1, 4, 3), torch.ones(1, 4, 4)
    # 12 logits of 0: (1 - 0.25) 0.5**1.5 log 2 each
    expected = 12 * 0.75 * 0.5**1.5 * math.log(2)
    assert float(class_loss([logits], found, LossConfig())) == pytest.approx(expected)
    assert float(box_loss([deltas], found, LossConfig())) == 0


def test_the_losses_of_levels_add_up_to_those_of_all_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 3, generator=generator)
    deltas = torch.randn(1, 4, 4, generator=generator)
    boxes = [[0.0, 0.0, 10.0, 10.0], [45.0, 45.0, 50.0, 46.0], [78.0, 78.0, 95.0, 95.0]]
    found = targets_of(boxes, [2, 0, -1])
    config = LossConfig(alpha=0.3, gamma=2.0, label_smoothing=0.1, delta=0.2)
    whole = focal(logits, *found[:1], *found[2:], alpha=0.3, gamma=2.0, label_smoothing=0.1)
    for sizes in ([4], [1, 3], [2, 1, 1]):
        levels = class_loss(list(torch.split(logits, sizes, dim=1)), found, config)
        torch.testing.assert_close(levels, whole)
        levels = box_loss(list(torch.split(deltas, sizes, dim=1)), found, config)
        torch.testing.assert_close(levels, huber(deltas, found.deltas, found.positive, 0.2))
