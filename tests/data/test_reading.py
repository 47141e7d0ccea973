"""Every kind of picture file comes out upright, in RGB, or with a reason."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import List

import numpy as np
import pytest
import torch
from PIL import Image

from data.reading import UnreadableImageError, large_images, read_image


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def pixel(path: Path, x: int = 0, y: int = 0) -> List[int]:
    values: List[int] = read_image(path)[:, y, x].tolist()
    return values


def test_rgb_is_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = read_image(save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image.dtype == torch.uint8
    assert image.permute(1, 2, 0).numpy().tolist() == pixels.tolist()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to the right
    image = read_image(save(tmp_path / "a.png", picture, exif=exif))
    assert image.shape == (3, 20, 10)
    assert image[:, 0, 9].tolist() == [255, 255, 255]  # top left went to top right


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100)
    red, green, blue = pixel(path)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    assert image[:, 0].tolist() == [[0, 100, 255]] * 3


def test_grey_with_alpha_lies_on_white(tmp_path: Path) -> None:
    picture = Image.new("LA", (2, 1), (100, 255))
    picture.putpixel((1, 0), (0, 0))
    path = save(tmp_path / "a.png", picture)
    assert pixel(path) == [100, 100, 100]
    assert pixel(path, 1) == [255, 255, 255]


def test_a_palette_with_transparency_lies_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((0, 0), 0)
    path = save(tmp_path / "a.png", picture, transparency=0)
    assert pixel(path) == [255, 255, 255]
    assert pixel(path, 1) == [0, 255, 0]


def test_an_animated_gif_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert pixel(path) == [255, 0, 0]


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    assert pixel(save(tmp_path / "a.png", Image.new("1", (2, 2), 1))) == [255, 255, 255]


def test_a_truncated_jpeg_is_unreadable(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(pixels))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(path)


def test_text_named_jpg_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("hello, world")
    with pytest.raises(UnreadableImageError, match=r"not an image \(starts with b'hello, w'\)"):
        read_image(path)


def test_an_empty_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadableImageError, match="empty file"):
        read_image(tmp_path / "a.jpg")


def test_float_pixels_are_refused_since_their_range_is_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.zeros((2, 2), dtype=np.float32)))
    with pytest.raises(UnreadableImageError, match="32-bit"):
        read_image(path)


def test_a_panorama_is_read_without_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("1", (12000, 9000)))  # 108 million pixels, 13 kB
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with large_images(), Image.open(path) as picture:
            assert picture.size == (12000, 9000)
    assert before == Image.MAX_IMAGE_PIXELS
