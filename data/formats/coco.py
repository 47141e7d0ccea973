"""COCO results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...]`.

`category_id` is the class's own in the annotations of the model's data, so that the file is judged
beside them; where nothing says that, it is label + 1. A results file has no place for a picture
without detections, so `coco_images.json` beside it lists all pictures and categories, and says
which ids these are; pycocotools loads it as ground truth without boxes:

    COCO("coco_images.json").loadRes("coco.json")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from data.formats.detections import Classes, ImageDetections
from data.formats.stream import JsonList

__all__ = ["FILE", "IMAGES_FILE", "Writer", "categories", "read", "result"]

FILE = "coco.json"
IMAGES_FILE = "coco_images.json"


def categories(ids: Sequence[int], names: Sequence[str]) -> List[Dict[str, Any]]:
    """COCO's list of categories."""
    return [{"id": number, "name": name} for number, name in zip(ids, names)]


def result(image_id: int, category_id: int, score: float, box: Sequence[float]) -> Dict[str, Any]:
    """One detection, xyxy in continuous pixels; to a thousandth of a pixel, the score in full."""
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
        "score": score,
    }


class Writer:
    """Writes `coco.json` and `coco_images.json`; boxes to 0.001 pixels, scores in full."""

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        self.classes = classes
        text = json.dumps(categories(classes.ids, classes.names), ensure_ascii=False)
        info = json.dumps({"category_ids": "of the data" if classes.of_data else "label + 1"})
        self.results = JsonList(folder / FILE, "[", "]")
        head = f'{{"info": {info},\n "categories": {text},\n "annotations": [],\n "images": ['
        self.images = JsonList(folder / IMAGES_FILE, head, "]}")

    def write(self, image: ImageDetections) -> None:
        self.results.extend(
            result(image.image_id, self.classes.ids[label], score, box)
            for label, score, box in zip(image.labels, image.scores, image.boxes)
        )
        entry: Dict[str, Any] = {"id": image.image_id, "file_name": image.file}
        self.images.extend([{**entry, "width": image.width, "height": image.height}])

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        self.results.close()
        self.images.close()


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read both files back; boxes to two thousandths of a pixel, the rest exactly."""
    results: Dict[int, List[Dict[str, Any]]] = {}
    for one in json.loads((folder / FILE).read_text(encoding="utf-8")):
        results.setdefault(one["image_id"], []).append(one)
    images = []
    for image in json.loads((folder / IMAGES_FILE).read_text(encoding="utf-8"))["images"]:
        found = results.get(image["id"], [])
        corners = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in found)]
        images.append(
            ImageDetections(
                image["file_name"],
                image["id"],
                image["width"],
                image["height"],
                tuple(classes.label_of[one["category_id"]] for one in found),
                tuple(one["score"] for one in found),
                tuple(corners),
            )
        )
    return images
