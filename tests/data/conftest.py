"""Pictures with known pixels."""

from __future__ import annotations

from typing import List

import pytest

from data.formats import Classes, ImageDetections


@pytest.fixture
def classes() -> Classes:
    """Names that trouble file names, spaces and CSV."""
    return Classes(["dog", "dining table", None, 'a/b, "c"', "katze ü"])


@pytest.fixture
def detections() -> List[ImageDetections]:
    """Two images with detections and one without, with names that trouble files."""
    third = 1 / 3  # a score that every rounding would change
    return [
        ImageDetections(
            "sub folder/Übung 1.jpg",
            7,
            640,
            480,
            (0, 4, 0),
            (third + 0.5, third, 0.1234567),
            ((0.0, 0.0, 640.0, 480.0), (10.25, 20.5, 30.125, 40.0), (1.0, 2.0, 3.5, 4.5)),
        ),
        ImageDetections("empty.png", 8, 100, 50),
        ImageDetections("empty.jpg", 12, 12000, 9000, (3,), (0.25,), ((5.0, 6.0, 11999.5, 8.0),)),
    ]
