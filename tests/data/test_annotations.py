"""Flat arrays of boxes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from data.annotations import Annotations, BoxList, pack
from data.generated import CLASSES, GeneratedImages


@pytest.fixture
def table() -> Annotations:
    """Three pictures with two, no and one boxes."""
    one, two, three = (1.0, 2.0, 3.0, 5.0), (0.0, 0.0, 9.0, 9.0), (4.0, 4.0, 5.0, 5.0)
    return pack(
        [
            BoxList("a", 5, (10, 20), [one, two], [0, 1], [False, True], [False, False], []),
            BoxList("b", 6, (10, 20), [], [], [], [], []),
            BoxList("c", 7, (10, 20), [three], [1], [False], [True], [0.25]),
        ],
        ["x", "y"],
    )


def test_rows_belong_to_their_pictures(table: Annotations) -> None:
    assert table.images.tolist() == [0, 0, 2]
    assert [table.labels[table.rows(index)].tolist() for index in range(3)] == [[0, 1], [], [1]]
    assert table.areas.tolist() == [6.0, 81.0, 0.25]
    assert table.counts() == {"x": 1, "y": 1}  # the crowd counts for nothing


def test_pictures_can_be_taken_in_any_order(table: Annotations) -> None:
    taken = table.take([2, 1, 0])
    assert taken.names.tolist() == ["c", "b", "a"]
    assert taken.labels.tolist() == [1, 0, 1]
    assert taken.images.tolist() == [0, 2, 2]
    assert len(table.take([]).boxes) == 0


def test_overflow_is_known_beforehand(table: Annotations) -> None:
    assert table.overflow(2) == (0, 0)
    assert table.overflow(1) == (1, 1)
    assert table.overflow(0) == (2, 3)


def test_no_object_per_box_is_kept() -> None:
    # A list of a million dicts costs half a gigabyte and is copied into every worker.
    rows = BoxList("a", 1, (9, 9), [(0.0, 0.0, 1.0, 1.0)] * 20000, [0] * 20000,
                   [False] * 20000, [False] * 20000, [])  # fmt: skip
    table = pack([rows], ["x"])
    assert len(pickle.dumps(table)) < 50 * 20000
    assert all(
        not isinstance(value, list) and getattr(value, "dtype", None) != np.dtype(object)
        for value in vars(table).values()
    )


def test_generated_pictures_know_their_annotations() -> None:
    images = GeneratedImages(3, (48, 64), seed=2, noise=32)
    table = images.annotations
    assert table.class_names == CLASSES
    for index in range(3):
        rows, sample = table.rows(index), images[index]
        assert table.boxes[rows].tolist() == sample.boxes.tolist()
        assert table.labels[rows].tolist() == sample.labels.tolist()
        assert table.image_ids[index] == sample.image_id
    assert images[0].image.float().mean() < 80  # the ground is dark, the shapes are not
    with pytest.raises(ValueError, match=r"noise must be 2..256"):
        GeneratedImages(1, noise=1)
