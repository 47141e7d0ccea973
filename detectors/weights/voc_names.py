"""VOC's class names by label, in alphabetical order as everybody numbers them."""

from __future__ import annotations

from typing import Tuple

__all__ = ["VOC_20"]

# fmt: off
VOC_20: Tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
