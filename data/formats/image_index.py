"""`images.csv`: the pictures of formats whose own files cannot name them all, with an id for each.

VOC's result files have one id per line and YOLO's one file per picture; both lose the extension and
the size.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Dict, List, Set, Tuple
from urllib.parse import quote

from data.formats.detections import ImageDetections

__all__ = ["ImageIndex", "file_name_of", "read_index"]

FILE = "images.csv"
COLUMNS = ("id", "file", "image_id", "width", "height")


class ImageIndex:
    """Gives pictures ids and writes them down as they come: `id,file,image_id,width,height`.

    The id is the file's name without extension; two pictures that differ in nothing else keep
    theirs. White space is written as %20, since VOC's lines are split at spaces.
    """

    def __init__(self, folder: Path) -> None:
        self.taken: Set[str] = set()
        self.path = folder / FILE
        with self.path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)

    def add(self, image: ImageDetections) -> str:
        """Write a picture's row and return its id."""
        name = "".join(quote(c) if c.isspace() or c == "%" else c for c in image.file)
        folder, separator, last = name.rpartition("/")
        stem = last.rpartition(".")[0] or last
        key = folder + separator + stem
        if key in self.taken:
            key = name
        self.taken.add(key)
        with self.path.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            row = [key, image.file, image.image_id, image.width, image.height]
            csv.writer(file, lineterminator="\n").writerow(row)
        return key


def read_index(folder: Path) -> Dict[str, Tuple[str, int, int, int]]:
    """id -> (file, image_id, width, height), in the order written."""
    with (folder / FILE).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows: List[Dict[str, str]] = list(csv.DictReader(file))
    return {
        row["id"]: (row["file"], int(row["image_id"]), int(row["width"]), int(row["height"]))
        for row in rows
    }


def file_name_of(class_name: str) -> str:
    """A class name as part of a file name; what file systems refuse is replaced (`/` by %2F)."""
    return "".join(f"%{ord(c):02X}" if c in '/\\:*?"<>|%' or ord(c) < 32 else c for c in class_name)
