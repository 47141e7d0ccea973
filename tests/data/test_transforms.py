"""Letterboxing, and both ways to resize against the libraries they stand for."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest
import torch
from PIL import Image

from data.transforms import BLACK, MEAN_COLOUR, letterbox, resize_half_pixel, resize_pillow

SIZES = [((480, 640), (96, 128)), ((37, 53), (128, 111)), ((9, 8), (9, 16)), ((300, 7), (64, 1))]


def noise(size: Tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8))


@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_half_pixel_resize_is_interpolate_without_antialiasing(
    size: Tuple[int, int], new_size: Tuple[int, int]
) -> None:
    image = noise(size)
    expected = torch.nn.functional.interpolate(
        image[None].float(), new_size, mode="bilinear", align_corners=False, antialias=False
    )[0]
    resized = resize_half_pixel(image, new_size)
    assert resized.dtype == torch.uint8
    assert (resized.float() - expected).abs().max() <= 0.5 + 1e-3  # rounded, not truncated


def test_pillow_resize_is_pillows() -> None:
    image = noise((48, 64))
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    expected = np.array(picture.resize((32, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(resize_pillow(image, (24, 32)).permute(1, 2, 0).numpy(), expected)


def test_the_two_ways_to_shrink_differ() -> None:
    # One white column in four: averaged away by Pillow, hit or missed without antialiasing.
    image = torch.zeros(3, 8, 64, dtype=torch.uint8)
    image[:, :, ::4] = 255
    assert resize_pillow(image, (2, 16)).float().std() < 10
    assert resize_half_pixel(image, (2, 16)).max() == 0


def test_letterbox_lies_top_left_on_the_mean_colour() -> None:
    image = torch.full((3, 50, 100), 200, dtype=torch.uint8)
    boxed, scale = letterbox(image, (128, 128))
    assert scale == 1.28
    assert boxed.shape == (3, 128, 128)
    assert (boxed[:, :64] == 200).all()  # 50 * 1.28
    assert (boxed[:, 64:] == torch.tensor(MEAN_COLOUR)[:, None, None]).all()


def test_letterbox_can_pad_with_black() -> None:
    boxed, _ = letterbox(torch.full((3, 10, 20), 9, dtype=torch.uint8), (16, 16), pad=BLACK)
    assert (boxed[:, 8:] == 0).all()


def test_the_new_size_is_truncated() -> None:
    image = torch.full((3, 427, 640), 200, dtype=torch.uint8)
    boxed, _ = letterbox(image, (512, 512))
    rows = int((boxed[0] == 200).all(dim=1).sum())
    assert rows == 341  # 427 * 0.8 = 341.6


def test_an_image_of_the_right_size_is_not_resized() -> None:
    image = noise((32, 32))
    boxed, scale = letterbox(image, (32, 32))
    assert scale == 1.0
    assert torch.equal(boxed, image)


def test_a_very_long_image_keeps_a_pixel() -> None:
    boxed, scale = letterbox(torch.zeros(3, 2, 5000, dtype=torch.uint8), (64, 64))
    assert scale == 64 / 5000
    assert (boxed[:, 0] == 0).all()
    assert (boxed[:, 1] == torch.tensor(MEAN_COLOUR)[:, None]).all()


def test_letterbox_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"\(3, h, w\) uint8, got \(1, 4, 4\)"):
        letterbox(torch.zeros(1, 4, 4, dtype=torch.uint8), (8, 8))
    with pytest.raises(ValueError, match="resample must be one of"):
        letterbox(torch.zeros(3, 4, 4, dtype=torch.uint8), (8, 8), resample="cubic")
