"""Anchors: by hand, and as many as each model has."""

from __future__ import annotations

import math
from typing import Tuple

import pytest
import torch

from detectors.anchors import (
    ASPECTS,
    AnchorGrid,
    exact_cell,
    grid_anchors,
    level_anchors,
    level_size,
    pyramid_anchors,
    rounded_cell,
)
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


RATIOS = (0.5, 1.0, 2.0)
SIZES = (32, 64, 128, 256, 512)


def test_rounded_cell_is_py_faster_rcnns_table() -> None:
    # Inclusive corners as in its printed table; here x2 and y2 are one larger.
    wide = [[-15, -4, 30, 19], [-38, -16, 53, 31], [-84, -40, 99, 55], [-176, -88, 191, 103]]
    square = [[-8, -8, 23, 23], [-24, -24, 39, 39], [-56, -56, 71, 71], [-120, -120, 135, 135]]
    tall = [[-3, -14, 18, 29], [-14, -36, 29, 51], [-36, -80, 51, 95], [-80, -168, 95, 183]]
    wide.append([-360, -184, 375, 199])
    square.append([-248, -248, 263, 263])
    tall.append([-168, -344, 183, 359])
    expected = torch.tensor(wide + square + tall).float() + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(rounded_cell(SIZES, RATIOS), expected)


def test_exact_cell_has_the_areas_and_ratios_it_names() -> None:
    cell = exact_cell((32, 64), RATIOS)
    size = cell[:, 2:] - cell[:, :2]
    torch.testing.assert_close(
        size.prod(dim=1), torch.tensor([1024.0] * 3 + [4096.0] * 3)
    )  # size by size
    torch.testing.assert_close(size[:, 1] / size[:, 0], torch.tensor(RATIOS * 2))
    torch.testing.assert_close(cell[:, :2], -cell[:, 2:])


def test_grid_runs_by_row_column_anchor() -> None:
    cell = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    grid = grid_anchors(cell, (2, 3), 16)
    assert grid.shape == (12, 4)
    assert grid[3].tolist() == [16.0, 0.0, 18.0, 2.0]  # row 0, column 1, anchor 1
    assert grid[6].tolist() == [0.0, 16.0, 1.0, 17.0]  # row 1, column 0, anchor 0


def test_as_many_rounded_anchors_lie_inside_800_pixels_as_published() -> None:
    grid = grid_anchors(rounded_cell(SIZES, RATIOS), (50, 50), 16)
    inside = (grid[:, :2] >= 0).all(dim=1) & (grid[:, 2:] <= 800).all(dim=1)
    assert len(grid) == 37_500
    assert int(inside.sum()) == 22_384


def test_exact_anchors_equal_torchvisions_but_for_its_rounding() -> None:
    utils = pytest.importorskip("torchvision.models.detection.anchor_utils")
    images = pytest.importorskip("torchvision.models.detection.image_list")
    generator = utils.AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),))
    batch = images.ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    theirs = generator(batch, [torch.zeros(1, 8, 4, 6)])[0].reshape(24, 3, 3, 4)
    ours = grid_anchors(exact_cell((32, 64, 128), RATIOS), (4, 6), 16).reshape(24, 3, 3, 4)
    # torchvision runs ratio by ratio, and rounds corners of a cell to whole pixels.
    torch.testing.assert_close(ours.transpose(1, 2), theirs, rtol=0, atol=0.5)
