"""CSV: `file,label,score,xmin,ymin,xmax,ymax`; a picture without detections is its file alone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from data.formats.detections import Box, Classes, ImageDetections
from data.formats.stream import open_part, publish

__all__ = ["FILE", "Writer", "read"]

FILE = "detections.csv"
COLUMNS = ("file", "label", "score", "xmin", "ymin", "xmax", "ymax")


class Writer:
    """Writes `detections.csv`; boxes to a thousandth of a pixel, scores in full."""

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.classes = classes
        self.file = open_part(self.path)
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(COLUMNS)
        self.file.flush()

    def write(self, image: ImageDetections) -> None:
        for label, score, box in zip(image.labels, image.scores, image.boxes):
            corners = [round(value, 3) for value in box]
            self.rows.writerow([image.file, self.classes.names[label], score, *corners])
        if not image.labels:
            self.rows.writerow([image.file, *[""] * (len(COLUMNS) - 1)])
        self.file.flush()

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        self.file.close()
        publish(self.path)


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read `detections.csv` back; it keeps neither image ids nor sizes."""
    found: Dict[str, List[Tuple[int, float, Box]]] = {}
    with (folder / FILE).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            image = found.setdefault(row["file"], [])
            if row["label"]:
                box = (
                    float(row["xmin"]),
                    float(row["ymin"]),
                    float(row["xmax"]),
                    float(row["ymax"]),
                )
                image.append((classes.label(row["label"], FILE), float(row["score"]), box))
    return [
        ImageDetections(
            name,
            0,
            0,
            0,
            tuple(label for label, _, _ in image),
            tuple(score for _, score, _ in image),
            tuple(box for _, _, box in image),
        )
        for name, image in found.items()
    ]
