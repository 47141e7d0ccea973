"""VOC results ("comp4"): per class a file of lines `<image id> <score> <xmin> <ymin> <xmax>
<ymax>`.

VOC's pixels are counted from 1 and its maxima are inclusive: pixel columns a..b (from 0, both
included) cover a..b+1 of our continuous coordinates and are called a+1..b+1 there. So +1 goes to
the minima only; the maxima stay as they are. `voc/classes.txt` lists the classes in order and
`voc/images.csv` all pictures, those without detections too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from data.formats.detections import Box, Classes, ImageDetections
from data.formats.image_index import ImageIndex, file_name_of, read_index
from data.formats.stream import open_part_folder, publish

__all__ = ["FOLDER", "Writer", "class_file", "line", "read"]

FOLDER = "voc"


def class_file(name: str) -> str:
    """`comp4_det_test_dog.txt`."""
    return f"comp4_det_test_{file_name_of(name)}.txt"


def line(image: str, score: float, box: Sequence[float]) -> str:
    """One detection, xyxy in continuous pixels; to a thousandth of a pixel, the score in full."""
    x1, y1, x2, y2 = box
    return f"{image} {score!r} {x1 + 1:.3f} {y1 + 1:.3f} {x2:.3f} {y2:.3f}\n"


class Writer:
    """Writes the folder `voc/`; boxes to a thousandth of a pixel, scores in full.

    Files are opened for each picture: a thousand classes would be a thousand open files.
    """

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        self.path = folder / FOLDER
        self.part = open_part_folder(self.path)
        self.classes = classes
        for name in classes.names:  # the devkit wants a file for every class
            (self.part / class_file(name)).touch()
        (self.part / "classes.txt").write_text("\n".join(classes.names) + "\n", encoding="utf-8")
        self.index = ImageIndex(self.part)

    def write(self, image: ImageDetections) -> None:
        key = self.index.add(image)
        lines: Dict[int, str] = {}
        for label, score, box in zip(image.labels, image.scores, image.boxes):
            lines[label] = lines.get(label, "") + line(key, score, box)
        for label, text in lines.items():
            path = self.part / class_file(self.classes.names[label])
            with path.open("a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                file.write(text)

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        publish(self.path)


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read the folder `voc/` back, best score first; detections of equal score are in the order of
    their labels.
    """
    folder = folder / FOLDER
    found: Dict[str, List[Tuple[int, float, Box]]] = {}
    for label, name in enumerate(classes.names):
        text = (folder / class_file(name)).read_text(encoding="utf-8", errors="surrogateescape")
        for row in text.splitlines():
            key, score, xmin, ymin, xmax, ymax = row.split(" ")
            box = (float(xmin) - 1, float(ymin) - 1, float(xmax), float(ymax))
            found.setdefault(key, []).append((label, float(score), box))
    images = []
    for key, (file, image_id, width, height) in read_index(folder).items():
        image = sorted(found.get(key, []), key=lambda detection: -detection[1])
        labels = tuple(label for label, _, _ in image)
        scores = tuple(score for _, score, _ in image)
        boxes = tuple(box for _, _, box in image)
        images.append(ImageDetections(file, image_id, width, height, labels, scores, boxes))
    return images
