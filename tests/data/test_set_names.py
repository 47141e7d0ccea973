"""Splits that are called otherwise: taken for what they are, and never drawn anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from PIL import Image

from data.coco import read_coco
from data.layout import find_layout
from data.voc import read_voc
from data.yolo import read_yolo

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax>"
    "<ymax>10</ymax></bndbox></object></annotation>"
)


def write(root: Path, form: str, train: str, val: str) -> Path:
    """Three pictures to train on and one to evaluate on, named by their split's first letter."""
    for number, (name, folder) in enumerate(
        [("t1", train), ("t2", train), ("t3", train), ("v1", val)]
    ):
        place = {"voc": f"{folder}/{name}", "nested": f"JPEGImages/{folder}/{name}"}.get(
            form, f"images/{folder}/{name}"
        )
        path = root / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(path)
        text = path.with_suffix(".xml")
        if form == "nested":
            text = root / f"Annotations/{folder}/{name}.xml"
        if form == "yolo":
            text = root / f"labels/{folder}/{name}.txt"
        if form != "coco":
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(XML if form != "yolo" else "0 .5 .5 .5 .5\n")
    if form == "yolo":
        (root / "classes.txt").write_text("cat\n")
    if form == "coco":
        for folder, names in ((train, ["t1", "t2", "t3"]), (val, ["v1"])):
            coco(root / f"annotations/{folder}.json", names)
    return root


def coco(path: Path, names: List[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate(names)]
    row = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [10, 5, 20, 15]}
    table = [{"id": 1, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": [row], "categories": table}))


NAMES = [("Train", "Val"), ("training", "validation"), ("TRAIN", "Test")]
ANY = [("mine_train", "mine_val"), ("annotations-train", "annotations-valid")]


@pytest.mark.parametrize(
    ("form", "train", "val"),
    [(form, *names) for form in ("voc", "nested", "yolo", "coco") for names in NAMES]
    + [(form, *names) for form in ("yolo", "coco") for names in ANY],
)
def test_a_split_is_known_by_other_names(tmp_path: Path, form: str, train: str, val: str) -> None:
    root = write(tmp_path, form, train, val)
    layout = find_layout(root, ["train"], ["val"])
    assert (layout.train, layout.val) == ([train], [val])
    read: Any = {"voc": read_voc, "nested": read_voc, "yolo": read_yolo, "coco": read_coco}[form]
    found = read(root, {"train": layout.train, "val": layout.val})
    stems: Dict[str, List[str]] = {
        split: [Path(name).stem for name in table.names.tolist()]
        for split, table in found.splits.items()
    }
    assert stems == {"train": ["t1", "t2", "t3"], "val": ["v1"]}
    assert found.report.notes == []  # nothing was drawn


def test_several_sets_of_a_kind_are_left_to_the_user(tmp_path: Path) -> None:
    root = write(tmp_path, "coco", "cats_train", "cats_val")
    coco(root / "annotations/dogs_train.json", ["t1"])
    layout = find_layout(root, ["train"], ["val"])
    assert (layout.train, layout.val) == (["train"], ["cats_val"])
    with pytest.raises(FileNotFoundError) as error:
        read_coco(root, {"train": layout.train})
    assert "there are cats_train, cats_val, dogs_train" in str(error.value)
    assert "name what is there: data.train=[cats_train]" in str(error.value)
    assert "data.download" not in str(error.value)


def test_folders_of_annotations_lack_a_set_and_say_so(tmp_path: Path) -> None:
    root = write(tmp_path, "nested", "train", "test")
    with pytest.raises(FileNotFoundError, match="no folder 'val'; there are train, test"):
        read_voc(root, {"val": ["val"]})


def test_the_only_file_of_a_split_is_not_split_again(tmp_path: Path) -> None:
    root = write(tmp_path, "coco", "mine_train", "mine_val")
    (root / "annotations/mine_val.json").unlink()
    layout = find_layout(root, ["train"], ["val"])
    assert (layout.train, layout.val) == (["mine_train"], ["val"])
