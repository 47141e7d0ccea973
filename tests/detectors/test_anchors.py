"""Anchors: by hand, and as many as each model has."""

from __future__ import annotations

import math
from typing import Tuple

import pytest
import torch

from detectors.anchors import ASPECTS, AnchorGrid, level_anchors, level_size, pyramid_anchors
from detectors.models.efficientdet.config import CONFIGS


def test_first_cell_of_p3_by_hand() -> None:
    anchors = level_anchors((512, 512), 3, 4.0, 3, ASPECTS["exact"])
    root = math.sqrt(2)
    expected = []
    for base in (32.0, 32.0 * 2 ** (1 / 3), 32.0 * 2 ** (2 / 3)):
        for width, height in ((base, base), (base * root, base / root), (base / root, base * root)):
            expected.append([4 - width / 2, 4 - height / 2, 4 + width / 2, 4 + height / 2])
    torch.testing.assert_close(anchors[:9], torch.tensor(expected))


def test_cells_run_along_rows_first() -> None:
    anchors = level_anchors((512, 512), 3, 4.0, 3, ASPECTS["exact"])
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    torch.testing.assert_close(centres[9], torch.tensor([12.0, 4.0]))  # next column
    torch.testing.assert_close(centres[9 * 64], torch.tensor([4.0, 12.0]))  # next row


def test_largest_anchor_of_d0() -> None:
    anchors = level_anchors((512, 512), 7, 4.0, 3, ASPECTS["exact"])
    size = anchors[:, 2:] - anchors[:, :2]
    assert float(size.max()) == pytest.approx(1149.4, abs=0.05)  # spec: long edge of P7, octave 2
    assert float(size[6, 0]) == pytest.approx(812.7, abs=0.05)


def test_rounded_aspects_are_effdets_sizes() -> None:
    anchors = level_anchors((512, 512), 3, 4.0, 3, ASPECTS["rounded"])
    size = anchors[:3, 2:] - anchors[:3, :2]
    torch.testing.assert_close(size, torch.tensor([[32.0, 32.0], [44.8, 22.4], [22.4, 44.8]]))


def test_strides_follow_each_axis_of_an_odd_size() -> None:
    # 511 px halve to 256, 128, 64 cells: the stride is 511 / 64 px, not 8.
    anchors = level_anchors((511, 1024), 3, 4.0, 3, ASPECTS["exact"])
    assert anchors.shape == (64 * 128 * 9, 4)
    size = anchors[0, 2:] - anchors[0, :2]
    torch.testing.assert_close(size, torch.tensor([32.0, 4 * 511 / 64]))


@pytest.mark.parametrize(
    ("image_size", "level", "cells"), [((512, 512), 7, (4, 4)), ((499, 333), 5, (16, 11))]
)
def test_levels_halve_upwards(
    image_size: Tuple[int, int], level: int, cells: Tuple[int, int]
) -> None:
    assert level_size(image_size, level) == cells


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("d0", 49_104),
        ("d1", 76_725),
        ("d2", 110_484),
        ("d3", 150_381),
        ("d4", 196_416),
        ("d5", 306_900),
        ("d6", 306_900),
        ("d7", 441_936),
        ("d7x", 442_260),
    ],
)
def test_number_of_anchors(name: str, count: int) -> None:
    config = CONFIGS[f"efficientdet-{name}"]
    levels = range(config.min_level, config.max_level + 1)
    assert pyramid_anchors(config.image_size, levels, config.anchor_scale).shape == (count, 4)


def test_anchors_stay_float32_in_a_half_model() -> None:
    boxes = torch.tensor([[0.125, 1000.25, 4.0, 1400.5]])  # half has steps of 0.5 over 1000
    grid, layer = AnchorGrid(boxes), torch.nn.Linear(2, 2)
    torch.nn.Sequential(grid, layer).half()
    assert layer.weight.dtype == torch.float16
    assert grid().dtype == torch.float32
    assert torch.equal(grid(), boxes)
