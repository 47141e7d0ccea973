"""COCO results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...]`.

`category_id` is label + 1, which for a head of 90 slots is COCO's own id. A results file has no
place for a picture without detections, so `coco_images.json` beside it lists all pictures and
categories; pycocotools loads it as ground truth without boxes:

    COCO("coco_images.json").loadRes("coco.json")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from data.formats.detections import Classes, ImageDetections
from data.formats.stream import JsonList

__all__ = ["FILE", "IMAGES_FILE", "Writer", "read"]

FILE = "coco.json"
IMAGES_FILE = "coco_images.json"


class Writer:
    """Writes `coco.json` and `coco_images.json`; boxes to 0.001 pixels, scores in full."""

    def __init__(self, folder: Path, classes: Classes, header: Mapping[str, Any]) -> None:
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes.names)]
        text = json.dumps(categories, ensure_ascii=False)
        self.results = JsonList(folder / FILE, "[", "]")
        head = f'{{"info": {{}},\n "categories": {text},\n "annotations": [],\n "images": ['
        self.images = JsonList(folder / IMAGES_FILE, head, "]}")

    def write(self, image: ImageDetections) -> None:
        self.results.extend(
            {
                "image_id": image.image_id,
                "category_id": label + 1,
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": score,
            }
            for label, score, (x1, y1, x2, y2) in zip(image.labels, image.scores, image.boxes)
        )
        entry: Dict[str, Any] = {"id": image.image_id, "file_name": image.file}
        self.images.extend([{**entry, "width": image.width, "height": image.height}])

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        self.results.close()
        self.images.close()


def read(folder: Path, classes: Classes) -> List[ImageDetections]:
    """Read both files back; boxes to two thousandths of a pixel, the rest exactly."""
    results: Dict[int, List[Dict[str, Any]]] = {}
    for result in json.loads((folder / FILE).read_text(encoding="utf-8")):
        results.setdefault(result["image_id"], []).append(result)
    images = []
    for image in json.loads((folder / IMAGES_FILE).read_text(encoding="utf-8"))["images"]:
        found = results.get(image["id"], [])
        corners = [(x, y, x + w, y + h) for x, y, w, h in (result["bbox"] for result in found)]
        images.append(
            ImageDetections(
                image["file_name"],
                image["id"],
                image["width"],
                image["height"],
                tuple(result["category_id"] - 1 for result in found),
                tuple(result["score"] for result in found),
                tuple(corners),
            )
        )
    return images
