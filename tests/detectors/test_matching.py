"""Matching: thresholds, low-quality matches, regions to ignore, padding."""

from __future__ import annotations

from typing import List

import pytest
import torch
from torch import Tensor

from detectors import matching
from detectors.matching import IGNORE, NEGATIVE, POSITIVE, MatchConfig, match_boxes

BOX = [0.0, 0.0, 10.0, 10.0]
PADDING = [0.0, 0.0, 0.0, 0.0]
ANCHORS = torch.tensor(
    [
        [0.0, 0.0, 10.0, 10.0],  # IoU 1 with BOX
        [0.0, 0.0, 10.0, 5.0],  # 0.5
        [0.0, 0.0, 10.0, 2.0],  # 0.2
        [50.0, 50.0, 60.0, 60.0],  # 0
    ]
)


def truth(*rows: List[float]) -> Tensor:
    return torch.tensor([rows])


def states(boxes: Tensor, labels: List[int], config: MatchConfig, **kwargs: Tensor) -> List[int]:
    matches = match_boxes(ANCHORS, boxes, torch.tensor([labels]), config, **kwargs)
    assert matches.state.dtype == torch.int32
    return list(matches.state[0].tolist())


def test_iou_decides_between_object_neither_and_background() -> None:
    found = states(truth(BOX), [3], MatchConfig(0.7, 0.3))
    assert found == [POSITIVE, IGNORE, NEGATIVE, NEGATIVE]


def test_thresholds_belong_to_the_upper_side() -> None:
    found = states(truth(BOX), [3], MatchConfig(0.5, 0.2))
    assert found == [POSITIVE, POSITIVE, IGNORE, NEGATIVE]


def test_each_anchor_gets_the_box_it_overlaps_most() -> None:
    boxes = truth(BOX, [50.0, 50.0, 60.0, 61.0])
    matches = match_boxes(ANCHORS, boxes, torch.tensor([[0, 1]]), MatchConfig(0.5, 0.5))
    assert matches.index[0].tolist() == [0, 0, 0, 1]


def test_the_best_anchor_of_a_box_is_positive_if_asked_for() -> None:
    thin = [0.0, 0.0, 10.0, 1.0]  # IoU 0.5 with the third anchor, its best
    assert states(truth(thin), [0], MatchConfig(0.7, 0.6))[2] == NEGATIVE
    assert states(truth(thin), [0], MatchConfig(0.7, 0.6, low_quality=True))[2] == POSITIVE


def test_a_box_that_overlaps_nothing_has_no_best_anchor() -> None:
    # Every anchor ties its best IoU of 0; detectron2's matcher makes all of them positive.
    far = [200.0, 200.0, 210.0, 210.0]
    found = states(truth(far), [0], MatchConfig(low_quality=True))
    assert found == [NEGATIVE] * 4


def test_padding_matches_nothing() -> None:
    found = states(truth(PADDING, PADDING), [-1, -1], MatchConfig(low_quality=True))
    assert found == [NEGATIVE] * 4


def test_background_inside_a_crowd_is_ignored_and_objects_are_not() -> None:
    crowd = [0.0, 0.0, 10.0, 2.5]  # covers all of anchor 2, half of 1, a quarter of 0
    found = states(truth(BOX, crowd), [0, -1], MatchConfig(0.7, 0.6))
    assert found == [POSITIVE, IGNORE, IGNORE, NEGATIVE]
    found = states(truth(BOX, crowd), [0, -1], MatchConfig(0.7, 0.6, ignore=0.6))
    assert found == [POSITIVE, NEGATIVE, IGNORE, NEGATIVE]


def test_a_crowd_is_nobodys_match() -> None:
    assert states(truth(BOX), [-1], MatchConfig(low_quality=True, ignore=1.0))[1:] == [
        IGNORE,
        IGNORE,
        NEGATIVE,
    ]


def test_what_is_not_allowed_is_ignored_and_no_boxs_best() -> None:
    allowed = torch.tensor([False, True, True, True])
    found = states(truth(BOX), [0], MatchConfig(0.9, 0.3, low_quality=True), allowed=allowed)
    assert found == [IGNORE, POSITIVE, NEGATIVE, NEGATIVE]


def test_images_with_their_own_candidates_match_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 30, 2, generator=generator) * 50
    candidates = torch.cat([corner, corner + 20], dim=-1)
    boxes, labels = candidates[:, :4] + 1, torch.tensor([[0, 1, 2, -1], [5, -1, -1, -1]])
    config = MatchConfig(0.5, 0.3, low_quality=True)
    both = match_boxes(candidates, boxes, labels, config)
    for image in range(2):
        one = slice(image, image + 1)
        alone = match_boxes(candidates[image], boxes[one], labels[one], config)
        assert torch.equal(alone.state, both.state[one])
        assert torch.equal(alone.index, both.index[one])


def test_matching_equals_torchvisions_where_both_are_defined() -> None:
    utils = pytest.importorskip("torchvision.models.detection._utils")
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(200, 2, generator=generator) * 80
    anchors = torch.cat([corner, corner + 5 + torch.rand(200, 2, generator=generator) * 40], -1)
    boxes = anchors[:6] + torch.rand(6, 4, generator=generator) * 4
    matcher = utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    expected = matcher(ops.box_iou(boxes, anchors))  # box, -1 background, -2 between
    found = match_boxes(
        anchors, boxes[None], torch.zeros(1, 6).int(), MatchConfig(0.7, 0.3, low_quality=True)
    )
    state = torch.where(expected >= 0, torch.ones_like(expected), -1 - expected)
    state = torch.where(state == 1, torch.where(expected >= 0, state, -state), state)
    assert torch.equal(found.state[0].long(), state)
    positive = expected >= 0
    assert torch.equal(found.index[0].long()[positive], expected[positive])


@pytest.mark.parametrize(("positive", "negative"), [(0.3, 0.7), (1.5, 0.5)])
def test_thresholds_out_of_order_are_refused(positive: float, negative: float) -> None:
    with pytest.raises(ValueError, match="0 <= negative <= positive <= 1"):
        MatchConfig(positive, negative)


FORCE = MatchConfig(0.5, 0.5, force=True)


def forced_index(*rows: List[float]) -> List[int]:
    labels = torch.zeros(1, len(rows), dtype=torch.int32)
    return list(match_boxes(ANCHORS, truth(*rows), labels, FORCE).index[0].tolist())


def test_the_best_anchor_of_a_box_is_forced_whatever_its_overlap() -> None:
    small = [0.0, 0.0, 10.0, 0.5]  # IoU 0.25 with the third anchor, its best
    assert states(truth(small), [0], MatchConfig(0.5, 0.5)) == [NEGATIVE] * 4
    assert states(truth(small), [0], FORCE) == [NEGATIVE, NEGATIVE, POSITIVE, NEGATIVE]


def test_a_forced_anchor_leaves_the_box_that_overlaps_it_more() -> None:
    low = [0.0, 3.0, 10.0, 5.0]  # IoU 0.4 with the second anchor, its best; BOX has 0.5 there
    plain = match_boxes(ANCHORS, truth(BOX, low), torch.zeros(1, 2).int(), MatchConfig(0.5, 0.5))
    assert plain.index[0, 1] == 0
    assert forced_index(BOX, low)[:2] == [0, 1]


def test_of_boxes_that_share_a_best_anchor_the_first_gets_it() -> None:
    nine, eight = [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 8.0]  # both best with the first anchor
    assert forced_index(nine, eight)[0] == 0
    assert forced_index(eight, nine)[0] == 0  # though the other overlaps it more


def test_of_equal_anchors_the_first_is_forced() -> None:
    anchors = ANCHORS[[3, 2, 2]]
    small = truth([0.0, 0.0, 10.0, 0.5])
    matches = match_boxes(anchors, small, torch.tensor([[0]]), FORCE)
    assert matches.state[0].tolist() == [NEGATIVE, POSITIVE, NEGATIVE]


def test_padding_regions_and_boxes_that_overlap_nothing_force_no_anchor() -> None:
    far = [200.0, 200.0, 210.0, 210.0]
    found = states(truth(PADDING, far, BOX), [-1, 0, -1], FORCE)
    assert found == [IGNORE, IGNORE, IGNORE, NEGATIVE]  # BOX is a region, and covers three


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_boxes_match_some_at_a_time_as_all_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(2, 60, 2, generator=generator) * 40
    anchors = torch.cat([corner, corner + 20], dim=-1)[0]
    boxes = torch.cat([corner, corner + 18], dim=-1)[:, 40:47]
    boxes = torch.cat([boxes, boxes[:, :3]], dim=1)  # equals, in other parts
    labels = torch.tensor([[0, 1, -1, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, -1, -1, 5, 6, 7, 8, 9]])
    config = MatchConfig(0.5, 0.4, low_quality=True, force=True)
    whole = match_boxes(anchors, boxes, labels, config)
    assert (whole.state == POSITIVE).sum() > 10
    monkeypatch.setattr(matching, "AT_ONCE", at_once)
    parts = match_boxes(anchors, boxes, labels, config)
    assert torch.equal(parts.state, whole.state)
    assert torch.equal(parts.index, whole.index)
