"""Boxes without their pictures lie where training has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.annotations import Annotations, BoxList, pack
from data.fitted_boxes import fitted_boxes
from data.fitting import Fit, fit_sample
from data.generated import GeneratedImages


def table() -> Annotations:
    """Two pictures: of 100 x 200 with three boxes, and of 50 x 50 with one over its edge."""
    boxes = [(0.0, 0.0, 20.0, 40.0), (10.0, 10.0, 30.0, 30.0), (0.0, 0.0, 200.0, 100.0)]
    crowd, difficult = [False, False, True], [False, True, False]
    first = BoxList("a.png", 1, (100, 200), boxes, [0, 1, 1], difficult, crowd, [])
    second = BoxList("b.png", 2, (50, 50), [(40.0, 40.0, 70.0, 60.0)], [2], [False], [False], [])
    return pack([first, second], ["x", "y", "z"])


def test_boxes_are_scaled_clipped_and_crowds_left_out() -> None:
    boxes, labels = fitted_boxes(table(), Fit((100, 100)))
    expected = [[0.0, 0.0, 10.0, 20.0], [5.0, 5.0, 15.0, 15.0], [80.0, 80.0, 100.0, 100.0]]
    assert boxes.tolist() == expected
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("difficult", ["ignore", "leave_out"])
def test_difficult_boxes_are_not_trained_on(difficult: str) -> None:
    assert fitted_boxes(table(), Fit((100, 100)), difficult=difficult)[1].tolist() == [0, 2]


@pytest.mark.parametrize(
    "fit",
    [
        Fit((96, 128)),
        Fit((96, 128), "squash"),
        Fit((128, 128), "short_edge", short_edges=(40, 64), long_edge=120),
    ],
)
def test_they_lie_where_the_pictures_bring_them(fit: Fit) -> None:
    images = GeneratedImages(5, (70, 90), seed=0, noise=64)
    placed = [fit_sample(images[index], fit) for index in range(5)]
    boxes, labels = fitted_boxes(images.annotations, fit)
    assert torch.equal(boxes, torch.cat([item.boxes for item in placed]))
    assert torch.equal(labels, torch.cat([item.labels for item in placed]).long())


def test_a_draw_is_part_of_all_and_repeats_itself() -> None:
    images = GeneratedImages(20, (64, 64), seed=0, noise=64)
    fit = Fit((64, 64))
    everything = {tuple(box) for box in fitted_boxes(images.annotations, fit)[0].tolist()}
    drawn = fitted_boxes(images.annotations, fit, limit=10, seed=4)[0]
    assert len(drawn) == 10
    assert {tuple(box) for box in drawn.tolist()} <= everything
    assert torch.equal(drawn, fitted_boxes(images.annotations, fit, limit=10, seed=4)[0])
    assert not torch.equal(drawn, fitted_boxes(images.annotations, fit, limit=10, seed=5)[0])


def test_boxes_without_area_and_pictures_without_boxes_are_nothing() -> None:
    flat = replace(table(), boxes=np.zeros((4, 4)))
    boxes, labels = fitted_boxes(flat, Fit((64, 64)))
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)
    assert fitted_boxes(table().take([]), Fit((64, 64)))[0].shape == (0, 4)
