"""Coverage: by hand, against all pairs, and against what the training's matching does."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

import pytest
import torch
from torch import Tensor

from detectors.anchor_coverage import best_ious, coverage, split_levels
from detectors.anchors import exact_cell, grid_anchors, level_size, rounded_cell
from detectors.boxes import box_iou
from detectors.matching import POSITIVE, MatchConfig, match_boxes
from detectors.models.efficientdet.anchors import build_anchors
from detectors.models.efficientdet.config import CONFIGS

SIZES = [(100, 132), (511, 513), (64, 640)]


def pyramid(size: Tuple[int, int]) -> Tuple[Tensor, Tuple[Tuple[int, int], ...]]:
    """D0's anchors, and its maps."""
    config = replace(CONFIGS["efficientdet-d0"], image_size=size)
    return build_anchors(config), tuple(level_size(size, level) for level in range(3, 8))


def some_boxes(size: Tuple[int, int], count: int = 150) -> Tensor:
    """Boxes of 1 to 200 pixels, some reaching beyond the input."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([size[1], size[0]])
    half = (torch.rand(count, 2, generator=generator) ** 2 * 199 + 1) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def two_cells() -> Tensor:
    """One row of two cells of 10 pixels with a square of 10: (1, 2, 1, 4)."""
    return torch.tensor([[[[0.0, 0.0, 10.0, 10.0]], [[10.0, 0.0, 20.0, 10.0]]]])


def test_best_ious_by_hand() -> None:
    boxes = torch.tensor(
        [
            [10.0, 0.0, 20.0, 10.0],  # an anchor itself
            [0.0, 0.0, 5.0, 10.0],  # half of one
            [5.0, 0.0, 15.0, 10.0],  # between two: 50 / 150
            [40.0, 0.0, 50.0, 10.0],  # beside all
        ]
    )
    torch.testing.assert_close(
        best_ious(boxes, [two_cells()]), torch.tensor([1.0, 0.5, 1 / 3, 0.0])
    )


@pytest.mark.parametrize("size", SIZES)
def test_best_ious_are_those_of_all_pairs(size: Tuple[int, int]) -> None:
    anchors, maps = pyramid(size)
    boxes = some_boxes(size)
    torch.testing.assert_close(
        best_ious(boxes, split_levels(anchors, maps)), box_iou(boxes, anchors).amax(dim=1)
    )


@pytest.mark.parametrize("size", SIZES)
def test_anchors_that_cross_the_edge_can_be_left_out(size: Tuple[int, int]) -> None:
    anchors, maps = pyramid(size)
    boxes = some_boxes(size)
    inside = (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2:] <= torch.tensor(size[::-1])).all(1)
    expected = box_iou(boxes, anchors[inside]).amax(dim=1)
    found = best_ious(boxes, split_levels(anchors, maps), size)
    torch.testing.assert_close(found, expected)
    assert bool((found < best_ious(boxes, split_levels(anchors, maps))).any())


@pytest.mark.parametrize("cell", [exact_cell, rounded_cell])
def test_a_single_map_is_held_the_same_way(cell: object) -> None:
    assert callable(cell)
    anchors = grid_anchors(cell((16, 32, 64), (0.5, 1.0, 2.0)), (9, 13), 16)
    boxes = some_boxes((144, 208))
    torch.testing.assert_close(
        best_ious(boxes, split_levels(anchors, [(9, 13)])), box_iou(boxes, anchors).amax(dim=1)
    )


def test_shares_by_hand() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 10.0], [5.0, 0.0, 15.0, 10.0], [0, 0, 2.0, 2.0]]
    )
    found = coverage(boxes, [two_cells()], threshold=0.5)
    assert found.unreached.tolist() == [False, False, True, True]  # 0.5 itself is enough
    assert found.smaller.tolist() == [False, True, False, True]
    assert (found.share_unreached, found.share_smaller, found.smallest) == (0.5, 0.5, 10.0)
    assert found.mean_best == pytest.approx((1 + 0.5 + 1 / 3 + 0.04) / 4)
    one = found.of(torch.tensor([True, False, False, False]))
    assert (one.share_unreached, one.mean_best) == (0.0, 1.0)
    none = found.of(torch.zeros(4, dtype=torch.bool))
    assert (none.share_unreached, none.mean_best) == (0.0, 0.0)


def test_unreached_boxes_are_those_that_matching_has_to_force() -> None:
    size = (100, 132)
    anchors, maps = pyramid(size)
    boxes = some_boxes(size)
    found = coverage(boxes, split_levels(anchors, maps), threshold=0.5)
    labels = torch.zeros(len(boxes), 1, dtype=torch.int32)
    state = match_boxes(anchors, boxes[:, None], labels, MatchConfig(0.5, 0.5)).state
    assert torch.equal(found.unreached, ~(state == POSITIVE).any(dim=1))
    assert 0 < found.share_unreached < 1


def test_anchors_that_do_not_fill_the_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="7 anchors are not as many on each of 4 cells"):
        split_levels(torch.zeros(7, 4), [(1, 2), (2, 1)])
