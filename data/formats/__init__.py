"""Output formats by name.

A writer's files are complete after every `write` and take their names at `close`; what is written
is read back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple

from data.formats import coco, csv, plain, voc, yolo
from data.formats.detections import Box, Classes, ImageDetections, Writer

__all__ = ["FORMATS", "Box", "Classes", "Format", "ImageDetections", "Writer"]


class Format(NamedTuple):
    """How to write and read one format."""

    path: str
    """Name of the file or folder it makes."""
    open: Callable[[Path, Classes, Mapping[str, Any]], Writer]
    """(output folder, classes, header for the formats that have one) -> writer."""
    read: Callable[[Path, Classes], List[ImageDetections]]
    """(output folder, classes) -> what was written."""


FORMATS: Dict[str, Format] = {
    "json": Format(plain.FILE, plain.Writer, plain.read),
    "coco": Format(coco.FILE, coco.Writer, coco.read),
    "csv": Format(csv.FILE, csv.Writer, csv.read),
    "voc": Format(voc.FOLDER + "/", voc.Writer, voc.read),
    "yolo": Format(yolo.FOLDER + "/", yolo.Writer, yolo.read),
}
"""What `--format` takes."""
