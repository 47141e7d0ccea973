"""Pictures and boxes of one's own, written as VOC, COCO or YOLO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from PIL import Image

SIZE = (60, 40)  # width, height
BOX = (11, 6, 30, 25)  # VOC's corners, counted from 1
FORMATS = ("voc", "coco", "yolo")

Objects = Sequence[Tuple[str, Tuple[float, float, float, float]]]


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (number, 3 * number % 256, 90)).save(path)


class OwnData:
    """The same pictures and boxes in any format, split by folder.

    Args:
        root: of the dataset.
        classes: all names.
    """

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        self.root = root
        self.classes = list(classes)
        self.images: Dict[str, List[Objects]] = {"train": [], "val": []}

    def add(self, split: str, *things: Tuple[str, Tuple[float, float, float, float]]) -> None:
        self.images[split].append(things)

    def write(self, form: str) -> Path:
        """Under its own root; pictures are of different colours."""
        root, number = self.root / form, 0
        for split, images in self.images.items():
            for place, things in enumerate(images):
                number += 1
                folder = f"images/{split}" if form == "yolo" else split
                picture(root / folder / f"{split}{place}.png", number)
                if form == "voc":
                    (root / split / f"{split}{place}.xml").write_text(voc(things))
                if form == "yolo":
                    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
                    text = "".join(self.yolo(*thing) for thing in things)
                    (root / "labels" / split / f"{split}{place}.txt").write_text(text)
            if form == "coco":
                (root / split / "_annotations.coco.json").write_text(self.coco(split))
        if form == "yolo":
            names = "".join(f"  {label}: {name}\n" for label, name in enumerate(self.classes))
            (root / "data.yaml").write_text(
                f"train: images/train\nval: images/val\nnames:\n{names}"
            )
        return root

    def yolo(self, name: str, box: Tuple[float, float, float, float]) -> str:
        x1, y1, x2, y2 = box[0] - 1, box[1] - 1, box[2], box[3]
        width, height = SIZE
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        sides = ((x2 - x1) / width, (y2 - y1) / height)
        return f"{self.classes.index(name)} {shares[0]} {shares[1]} {sides[0]} {sides[1]}\n"

    def coco(self, split: str) -> str:
        rows: List[Dict[str, Any]] = []
        for place, things in enumerate(self.images[split]):
            for name, (x1, y1, x2, y2) in things:
                box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
                label = self.classes.index(name) + 1
                rows.append({"image_id": place, "category_id": label, "bbox": box, "id": len(rows)})
        images = [
            {"id": place, "file_name": f"{split}{place}.png", "width": SIZE[0], "height": SIZE[1]}
            for place in range(len(self.images[split]))
        ]
        table = [{"id": label, "name": name} for label, name in enumerate(self.classes, start=1)]
        return json.dumps({"images": images, "annotations": rows, "categories": table})


def voc(things: Objects) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for name, (x1, y1, x2, y2) in things
    )
    return f"<annotation>\n{objects}</annotation>"
