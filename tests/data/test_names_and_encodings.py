"""Aliases of nothing, and XML in other encodings than UTF-8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from PIL import Image

from data.coco import read_coco
from data.defects import DefectReport
from data.layout import find_layout
from data.voc import read_voc
from data.yolo import read_yolo

XML = (
    '<?xml version="1.0" encoding="{}"?><annotation><object><name>cat</name><bndbox><xmin>1</xmin>'
    "<ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object></annotation>"
)


def write(root: Path, form: str) -> Path:
    Image.new("RGB", (60, 40)).save(root / "a.png")
    if form == "voc":
        (root / "a.xml").write_text(XML.format("utf-8"))
    if form == "yolo":
        (root / "a.txt").write_text("0 .5 .5 .5 .5\n")
        (root / "classes.txt").write_text("cat\n")
    if form == "coco":
        row = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 15]}
        images, table = [{"id": 1, "file_name": "a.png"}], [{"id": 1, "name": "cat"}]
        content = {"images": images, "annotations": [row], "categories": table}
        (root / "all.json").write_text(json.dumps(content))
    return root


def read(root: Path, form: str, aliases: Dict[str, str]) -> DefectReport:
    reader: Any = {"voc": read_voc, "yolo": read_yolo, "coco": read_coco}[form]
    report: DefectReport = reader(root, {"train": ["all"]}, aliases=aliases).report
    return report


@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_an_alias_of_a_class_that_is_not_there_is_said(tmp_path: Path, form: str) -> None:
    report = read(write(tmp_path, form), form, {"Cta": "cat", "cat": "animal"})
    assert "data.classes_alias renames Cta: no such class was read" in report.notes
    assert not any("alias" in note for note in read(tmp_path, form, {"cat": "dog"}).notes)


def test_xml_in_utf16_is_found_and_read(tmp_path: Path) -> None:
    root = write(tmp_path, "voc")
    (root / "a.xml").write_bytes(XML.format("utf-16").encode("utf-16"))
    assert find_layout(root, ["train"], ["val"]).format == "voc"
    assert read_voc(root, {"train": ["all"]}).splits["train"].boxes.tolist() == [[0, 0, 20, 10]]


@pytest.mark.parametrize("encoding", ["gb2312", "no-such-encoding"])
def test_xml_in_an_encoding_that_cannot_be_read_is_named(tmp_path: Path, encoding: str) -> None:
    root = write(tmp_path, "voc")
    (root / "a.xml").write_text(XML.format(encoding))
    defects = read_voc(root, {"train": ["all"]}).report.defects
    assert ("bad_file", "a.xml") in [(defect.kind, defect.where) for defect in defects]
