"""Readable JSON: one object per picture, after a header that says how they came.

{"model": ..., "classes": [...], "category_ids": [...],
 "images": [{"file": ..., "width": ..., "height": ..., "image_id": ..., "detections": [
   {"label": "dog", "score": 0.93, "box": {"xmin": ..., "ymin": ..., "xmax": ..., "ymax": ...}}]}],
 "unreadable": [{"file": ..., "reason": ...}], "complete": true}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from data.formats.detections import Classes, ImageDetections
from data.formats.stream import JsonList

__all__ = ["FILE", "Writer", "about", "read", "read_header"]

FILE = "detections.json"


class Writer:
    """Writes `detections.json` record by record.

    Args:
        folder: where to.
        classes: the model's classes.
        header: what else the file says before the pictures: model, weights, thresholds.
    """

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        self.classes = classes
        lines = [
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in {**header, **about(classes)}.items()
        ]
        head = "{\n " + ",\n ".join([*lines, '"images": ['])
        self.images = JsonList(folder / FILE, head, tail([], complete=False))

    def write(self, image: ImageDetections) -> None:
        detections = [
            {
                "label": self.classes.names[label],
                "score": score,
                "box": dict(zip(CORNERS, (round(value, 3) for value in box))),
            }
            for label, score, box in zip(image.labels, image.scores, image.boxes)
        ]
        entry: Dict[str, Any] = {"file": image.file, "width": image.width, "height": image.height}
        self.images.extend([{**entry, "image_id": image.image_id, "detections": detections}])

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        self.images.close(tail(unreadable, complete=complete))


def about(classes: Classes) -> Dict[str, Any]:
    """What the header says of the classes, by label."""
    return {"classes": list(classes.names), "category_ids": list(classes.ids)}


CORNERS = ("xmin", "ymin", "xmax", "ymax")


def tail(unreadable: Sequence[Tuple[str, str]], *, complete: bool) -> str:
    files = [{"file": name, "reason": reason} for name, reason in unreadable]
    return f'],\n "unreadable": {json.dumps(files)},\n "complete": {json.dumps(complete)}\n}}'


def read_header(folder: Path) -> Dict[str, Any]:
    """Everything but the pictures."""
    content: Dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    del content["images"]
    return content


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read `detections.json` back; boxes to a thousandth of a pixel, the rest exactly."""
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return [
        ImageDetections(
            image["file"],
            image["image_id"],
            image["width"],
            image["height"],
            tuple(classes.label(d["label"], FILE) for d in image["detections"]),
            tuple(d["score"] for d in image["detections"]),
            tuple(tuple(d["box"][corner] for corner in CORNERS) for d in image["detections"]),
        )
        for image in content["images"]
    ]
