"""YOLO text: per picture `yolo/labels/<id>.txt` of lines `<class> <cx> <cy> <w> <h> <score>`,
shares of width and height.

The class is the line in `yolo/classes.txt`, from 0. A picture without detections has an empty file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from data.formats.detections import Box, Classes, ImageDetections
from data.formats.image_index import ImageIndex, read_index
from data.formats.stream import open_part_folder, publish

__all__ = ["FOLDER", "Writer", "read"]

FOLDER = "yolo"


class Writer:
    """Writes the folder `yolo/`; shares have 8 decimals (a ten-thousandth of a pixel at 12 000),
    scores are in full.
    """

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        self.path = folder / FOLDER
        self.part = open_part_folder(self.path)
        (self.part / "classes.txt").write_text("\n".join(classes.names) + "\n", encoding="utf-8")
        self.index = ImageIndex(self.part)

    def write(self, image: ImageDetections) -> None:
        lines = []
        for label, score, (x1, y1, x2, y2) in zip(image.labels, image.scores, image.boxes):
            centre = ((x1 + x2) / 2 / image.width, (y1 + y2) / 2 / image.height)
            size = ((x2 - x1) / image.width, (y2 - y1) / image.height)
            lines.append(
                f"{label} {centre[0]:.8f} {centre[1]:.8f} {size[0]:.8f} {size[1]:.8f} {score!r}\n"
            )
        path = self.part / "labels" / f"{self.index.add(image)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        publish(self.path)


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read the folder `yolo/` back."""
    folder = folder / FOLDER
    images = []
    for key, (file, image_id, width, height) in read_index(folder).items():
        labels: List[int] = []
        scores: List[float] = []
        boxes: List[Box] = []
        for line in (folder / "labels" / f"{key}.txt").read_text(encoding="utf-8").splitlines():
            label, cx, cy, w, h, score = line.split(" ")
            half_w, half_h = float(w) / 2, float(h) / 2
            labels.append(int(label))
            scores.append(float(score))
            boxes.append(
                (
                    (float(cx) - half_w) * width,
                    (float(cy) - half_h) * height,
                    (float(cx) + half_w) * width,
                    (float(cy) + half_h) * height,
                )
            )
        images.append(
            ImageDetections(
                file, image_id, width, height, tuple(labels), tuple(scores), tuple(boxes)
            )
        )
    return images
