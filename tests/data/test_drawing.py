"""Boxes where they belong, in files people can open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.drawing import colour_of, draw, drawing_path, save_drawing


def test_a_box_is_drawn_on_its_own_pixels() -> None:
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    pixels = np.array(draw(image, [(50.0, 40.0, 150.0, 90.0)], [7], [""]))
    colour = list(colour_of(7))
    assert pixels[40, 100].tolist() == colour  # first row
    assert pixels[89, 100].tolist() == colour  # last row: the box ends before 90
    assert pixels[90, 100].tolist() == [0, 0, 0]
    assert pixels[60, 50].tolist() == colour
    assert pixels[60, 149].tolist() == colour
    assert pixels[60, 150].tolist() == [0, 0, 0]
    assert pixels[65, 100].tolist() == [0, 0, 0]  # inside
    assert not image.any()  # the picture itself stays


def test_a_label_at_the_top_edge_is_inside_the_picture() -> None:
    pixels = np.array(
        draw(torch.zeros(3, 60, 60, dtype=torch.uint8), [(5, -20, 40, 50)], [1], ["dog"])
    )
    assert (pixels[0, 5:25] == colour_of(1)).any(axis=1).any()


def test_the_best_detection_lies_on_top() -> None:
    box = (10.0, 30.0, 50.0, 50.0)
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    pixels = np.array(draw(image, [box, box], [1, 2], ["", ""]))
    assert pixels[49, 30].tolist() == list(colour_of(1))


def test_a_stamp_stands_in_the_lower_left_corner() -> None:
    pixels = np.array(
        draw(torch.full((3, 60, 200), 90, dtype=torch.uint8), [], [], [], "random weights")
    )
    assert (pixels[45:, :60] == 255).any()  # letters
    assert (pixels[:40] == 90).all()


def test_neighbouring_labels_have_different_colours() -> None:
    colours = [colour_of(label) for label in range(90)]
    assert len(set(colours)) > 80
    for one, two in zip(colours, colours[1:]):
        assert max(abs(a - b) for a, b in zip(one, two)) > 100


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("a/b.jpg", "a/b.jpg"), ("b.PNG", "b.PNG"), ("b.gif", "b.gif.png"), ("b", "b.png")],
)
def test_drawings_keep_relative_path_and_name(name: str, drawn: str) -> None:
    assert drawing_path(Path("out"), name) == Path("out") / drawn


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
def test_drawings_open_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"a.{suffix}"
    save_drawing(Image.new("RGB", (8, 6), "red"), path)
    with Image.open(path) as picture:
        assert picture.size == (8, 6)
