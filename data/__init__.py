"""Pictures and boxes as they are on disk, and the way back to it; knows no model."""

from __future__ import annotations

__all__ = [
    "annotations",
    "augmentation",
    "coco",
    "collate",
    "defects",
    "download",
    "drawing",
    "evaluation",
    "fitting",
    "folder",
    "formats",
    "generated",
    "placed_images",
    "probing",
    "sample",
    "sampler",
    "transforms",
    "voc",
]
