"""Pictures beyond Pillow's own limits, wherever a dataset opens them. Warnings are errors here."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from data.probing import image_size
from data.reading import MAX_PIXELS, UnreadableImageError, large_images, read_image

SIDES = [10_000, 15_000, 20_000]  # Pillow warns from 9460 on and refuses from 13378 on


def header_of_bmp(path: Path, width: int, height: int) -> Path:
    """A grey BMP without its pixels."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 0, 0, 0, 0, 0, 0)
    palette = bytes(grey for level in range(256) for grey in (level, level, level, 0))
    offset = 14 + len(head) + len(palette)
    path.write_bytes(b"BM" + struct.pack("<IHHI", offset, 0, 0, offset) + head + palette)
    return path


@pytest.mark.parametrize("side", SIDES)
def test_the_size_of_a_large_picture_is_read(tmp_path: Path, side: int) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert image_size(header_of_bmp(tmp_path / "a.bmp", side, side)) == (side, side)
    assert before == Image.MAX_IMAGE_PIXELS


def test_beyond_our_own_limit_a_picture_is_unreadable(tmp_path: Path) -> None:
    path = header_of_bmp(tmp_path / "a.bmp", 40_000, 40_000)
    assert image_size(path) == (0, 0)
    with pytest.raises(UnreadableImageError, match=f"more than {2 * MAX_PIXELS} pixels"):
        read_image(path)


def test_threads_leave_pillows_limit_as_it_was(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = header_of_bmp(tmp_path / "a.bmp", 15_000, 15_000)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(image_size, [path] * 200)) == {(15_000, 15_000)}
    assert before == Image.MAX_IMAGE_PIXELS
    with large_images(), large_images():
        pass
    assert before == Image.MAX_IMAGE_PIXELS
