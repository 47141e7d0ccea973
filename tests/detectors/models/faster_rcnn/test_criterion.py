"""Targets and losses of both stages, by hand and against a slow reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Callable, List

import pytest
import torch
from torch import Tensor

from detectors.boxes import encode_boxes
from detectors.losses import smooth_l1
from detectors.models.faster_rcnn.config import CONFIGS, FasterRCNNConfig
from detectors.models.faster_rcnn.criterion import (
    Regions,
    Truth,
    draw_regions,
    is_inside,
    region_losses,
    rpn_losses,
)

Config = Callable[..., FasterRCNNConfig]
VARIANTS = list(CONFIGS)
KEYS = torch.tensor([5], dtype=torch.int32)
BOX = [8.0, 8.0, 40.0, 40.0]


def truth(rows: List[List[float]], labels: List[int]) -> Truth:
    return Truth(torch.tensor([rows]), torch.tensor([labels], dtype=torch.int32), KEYS)


ONE = truth([BOX, [0.0] * 4], [3, -1])
EMPTY = truth([[0.0] * 4, [0.0] * 4], [-1, -1])


def test_rpn_losses_of_two_anchors_by_hand(config: Config) -> None:
    anchors = torch.tensor([BOX, [60.0, 60.0, 80.0, 80.0]])  # an object, background
    objectness = torch.tensor([[math.log(3.0), 0.0]])  # 3 / 4, 1 / 2
    deltas = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])
    class_loss = math.log(4 / 3) + math.log(2)
    found = rpn_losses(objectness, deltas, anchors, ONE, config("detectron2"))
    assert [float(loss) for loss in found] == pytest.approx([class_loss / 32, 1 / 32])
    found = rpn_losses(objectness, deltas, anchors, ONE, config("seed"))
    assert [float(loss) for loss in found] == pytest.approx([class_loss / 2, (1 - 1 / 18) / 2])


def test_anchors_across_the_edge_count_for_detectron2_alone(config: Config) -> None:
    anchors = torch.tensor([[-1.0, 8.0, 40.0, 40.0], [0.0, 0.0, 128.0, 96.0]])
    assert is_inside(anchors, (96, 128)).tolist() == [False, True]
    logits = torch.zeros(1, 2, requires_grad=True)
    for variant, touched in (("seed", [False, True]), ("detectron2", [True, True])):
        loss, _ = rpn_losses(logits, torch.zeros(1, 2, 4), anchors, ONE, config(variant))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient[0] != 0).tolist() == touched


@pytest.mark.parametrize("variant", VARIANTS)
def test_rpn_of_an_image_without_boxes_trains_on_background(variant: str, config: Config) -> None:
    anchors = torch.rand(400, 2).repeat(1, 2) * 50 + torch.tensor([0.0, 0.0, 20.0, 20.0])
    logits = torch.full((1, 400), math.log(3.0), requires_grad=True)
    deltas = torch.rand(1, 400, 4, requires_grad=True)
    class_loss, box_loss = rpn_losses(logits, deltas, anchors, EMPTY, config(variant))
    # 32 samples, each -log(1 - 3 / 4), over 32
    assert float(class_loss.detach()) == pytest.approx(math.log(4))
    assert float(box_loss.detach()) == 0
    of_logits, of_deltas = torch.autograd.grad(class_loss + box_loss, (logits, deltas))
    assert torch.count_nonzero(of_logits) == 32
    assert of_deltas.abs().sum() == 0


def proposals_around(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    shift = torch.rand(count, 2, generator=generator) * 24
    return (torch.tensor(BOX) + shift.repeat(1, 2))[None]


@pytest.mark.parametrize("variant", VARIANTS)
def test_regions_are_a_fourth_objects_with_their_targets(variant: str, config: Config) -> None:
    regions = draw_regions(proposals_around(60), ONE, config(variant))
    assert regions.boxes.shape == (1, 8, 4)
    assert regions.valid.all()
    assert regions.positive[0].tolist() == [True] * 2 + [False] * 6
    assert regions.labels[0].tolist() == [3, 3] + [5] * 6  # 5 is the background
    weights = torch.tensor([10.0, 10.0, 5.0, 5.0])
    expected = encode_boxes(torch.tensor([BOX]), regions.boxes[0, :2]) * weights
    torch.testing.assert_close(regions.targets[0, :2], expected)


def test_boxes_are_among_the_candidates_of_detectron2(config: Config) -> None:
    far = torch.tensor([[[60.0, 60.0, 90.0, 90.0]] * 20])
    assert not draw_regions(far, ONE, config("seed")).positive.any()
    regions = draw_regions(far, ONE, config("detectron2"))
    assert regions.boxes[0][regions.positive[0]].tolist() == [BOX]
    assert regions.targets[0][regions.positive[0]].abs().sum() == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_crowd_is_no_candidate_and_what_it_covers_no_background(
    variant: str, config: Config
) -> None:
    inside = torch.tensor([[[10.0, 10.0, 30.0, 30.0], [60.0, 60.0, 90.0, 90.0]]])
    regions = draw_regions(inside, truth([BOX], [-1]), config(variant))
    assert regions.boxes[0][regions.valid[0]].tolist() == [[60.0, 60.0, 90.0, 90.0]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_padded_proposals_are_never_valid(variant: str, config: Config) -> None:
    proposals = torch.cat([proposals_around(3), torch.zeros(1, 17, 4)], dim=1)
    regions = draw_regions(proposals, EMPTY, config(variant))
    assert int(regions.valid.sum()) == 3
    none = draw_regions(torch.zeros(1, 20, 4), EMPTY, config(variant))
    assert not none.valid.any()
    logits = torch.rand(1, 8, 6, requires_grad=True)
    losses = region_losses(logits, torch.rand(1, 8, 5, 4), none, beta=1.0)
    assert [float(loss.detach()) for loss in losses] == [0.0, 0.0]


def test_region_losses_use_the_boxes_of_their_class() -> None:
    regions = Regions(
        boxes=torch.zeros(1, 3, 4),
        labels=torch.tensor([[1, 2, 2]], dtype=torch.int32),  # two classes, 2 is background
        targets=torch.zeros(1, 3, 4),
        positive=torch.tensor([[True, False, False]]),
        valid=torch.tensor([[True, True, False]]),
    )
    deltas = torch.tensor([[[0.0] * 4, [1.0, 2.0, 0.0, 0.0]]]).expand(1, 3, 2, 4)
    logits = torch.zeros(1, 3, 3)
    class_loss, box_loss = region_losses(logits, deltas, regions, beta=0.0)
    assert float(class_loss) == pytest.approx(math.log(3))
    assert float(box_loss) == pytest.approx(3 / 2)  # |1| + |2|, over two valid regions
    _, smooth = region_losses(logits, deltas, regions, beta=1.0)
    assert float(smooth) == pytest.approx((0.5 + 1.5) / 2)


def test_rpn_losses_equal_torchvisions_on_all_anchors(config: Config) -> None:
    # With as many samples as anchors, sampling has no part in it.
    utils = pytest.importorskip("torchvision.models.detection._utils")
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(6)
    corner = torch.rand(60, 2, generator=generator) * 60
    anchors = torch.cat([corner, corner + 20 + torch.rand(60, 2, generator=generator) * 30], -1)
    objectness = torch.randn(1, 60, generator=generator)
    deltas = torch.randn(1, 60, 4, generator=generator)
    matches = utils.Matcher(0.7, 0.3, True)(ops.box_iou(torch.tensor([BOX]), anchors))
    positive, sampled = matches >= 0, matches != utils.Matcher.BETWEEN_THRESHOLDS
    targets = utils.BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(
        torch.tensor([BOX]).expand(60, 4), anchors
    )
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    class_loss = bce(objectness[0, sampled], positive[sampled].float(), reduction="sum") / 120
    box_loss = smooth_l1(deltas[0], targets, positive, beta=0.0) / 120
    base = config("detectron2")
    rpn = replace(base.rpn, num_samples=120)
    found = rpn_losses(objectness, deltas, anchors, ONE, replace(base, rpn=rpn))
    torch.testing.assert_close(torch.stack(found), torch.stack([class_loss, box_loss]))
