"""Generated pictures: the same for the same seed, with boxes that hold what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from data.generated import CLASSES, GeneratedImages, write_pictures


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    one, same = GeneratedImages(3, seed=5)[2], GeneratedImages(9, seed=5)[2]
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.boxes, same.boxes)
    assert not torch.equal(one.image, GeneratedImages(3, seed=6)[2].image)
    assert not torch.equal(one.image, GeneratedImages(3, seed=5)[1].image)


def test_pixels_are_random_uint8_and_not_zeros() -> None:
    image = GeneratedImages(1)[0].image
    assert image.dtype == torch.uint8
    assert len(set(image.flatten().tolist())) == 256
    assert 100 < image.float().mean() < 156


def test_boxes_fit_their_shapes() -> None:
    for sample in (GeneratedImages(4, (96, 128))[index] for index in range(4)):
        assert len(sample.boxes) >= 1
        for (x1, y1, x2, y2), label in zip(sample.boxes.int().tolist(), sample.labels.tolist()):
            # The middle of a circle, a square and a triangle is filled with one colour.
            middle = sample.image[:, (y1 + y2) // 2 - 1 : (y1 + y2) // 2 + 1, (x1 + x2) // 2]
            assert (middle[:, 0] == middle[:, 1]).all(), CLASSES[label]
            assert 0 <= x1 < x2 <= 128
            assert 0 <= y1 < y2 <= 96


def test_a_square_fills_its_box_exactly() -> None:
    squares = [
        (sample, box)
        for sample in (GeneratedImages(8, (96, 128))[index] for index in range(8))
        for box, label in zip(sample.boxes.int().tolist(), sample.labels.tolist())
        if CLASSES[label] == "square"
    ]
    assert squares
    for sample, (x1, y1, x2, y2) in squares:
        inside = sample.image[:, y1:y2, x1:x2]
        assert (inside == inside[:, :1, :1]).all()


def test_pictures_are_written_as_files(tmp_path: Path) -> None:
    write_pictures(tmp_path / "new", 2, (32, 48))
    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == ["generated_000000.png", "generated_000001.png"]
    with Image.open(tmp_path / "new" / files[0]) as picture:
        assert picture.size == (48, 32)


def test_an_index_past_the_end_ends_a_loop() -> None:
    assert len(list(GeneratedImages(2, (16, 16)))) == 2  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="count >= 1"):
        GeneratedImages(0)
