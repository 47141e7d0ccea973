"""Boxes that are shares of their pictures in formats that have pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Sequence

import pytest
from PIL import Image

from data.coco import read_coco
from data.defects import DefectReport
from data.voc import read_voc


def read(root: Path, form: str, boxes: Sequence[Sequence[float]]) -> DefectReport:
    """One picture of 60 x 40 with these xyxy boxes."""
    Image.new("RGB", (60, 40)).save(root / "a.png")
    if form == "voc":
        objects = "".join(
            "<object><name>cat</name><bndbox>"
            + "".join(f"<{key}>{value}</{key}>" for key, value in zip(CORNERS, box))
            + "</bndbox></object>"
            for box in boxes
        )
        (root / "a.xml").write_text(f"<annotation>{objects}</annotation>")
        return read_voc(root, {"train": ["all"]}).report
    rows = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for number, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    images, table = [{"id": 1, "file_name": "a.png"}], [{"id": 1, "name": "cat"}]
    content = {"images": images, "annotations": rows, "categories": table}
    (root / "all.json").write_text(json.dumps(content))
    return read_coco(root, {"train": ["all"]}).report


CORNERS = ("xmin", "ymin", "xmax", "ymax")
SHARES = [(0.25, 0.25, 0.5, 1.0), (0.5, 0.125, 0.75, 0.5)]


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_a_set_of_shares_cannot_be_trained_on(tmp_path: Path, form: str) -> None:
    report = read(tmp_path, form, SHARES)
    assert [str(defect) for defect in report.of_kind("shares")] == [
        "train (2 boxes, the largest corner 1)"
    ]
    with pytest.raises(ValueError, match="1 sets whose boxes all lie within one pixel"):
        report.require_sound()


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_one_box_of_pixels_tells_that_all_are(tmp_path: Path, form: str) -> None:
    assert not read(tmp_path, form, [*SHARES, (10, 5, 30, 20)]).of_kind("shares")
