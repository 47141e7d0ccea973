"""Formats told by what is in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Sequence, Tuple

import pytest
from PIL import Image

from data.layout import find_layout

XML = "<annotation><object/></annotation>"
COCO = json.dumps({"images": [], "annotations": [], "categories": []})
BOX = "0 0.5 0.5 0.5 0.5\n"


def write(root: Path, *files: str) -> Path:
    """Files by name: annotations of the format that the name says, or pictures."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            Image.new("RGB", (8, 8)).save(path)
        elif path.suffix == ".yaml":
            path.write_text("names: [cat]\n")
        elif path.name == "notes.json":  # Label Studio's
            path.write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {}}')
        elif "ImageSets" in file:
            path.write_text("a\n")
        else:
            path.write_text({".xml": XML, ".json": COCO}.get(path.suffix, BOX))
    return root


FOUND: List[Tuple[Sequence[str], str, str, str]] = [
    (["Annotations/a.xml", "JPEGImages/a.jpg"], "voc", "train", "val"),
    (["a.xml", "a.jpg"], "voc", "train", "val"),
    (["train/a.xml", "train/a.jpg", "valid/b.xml"], "voc", "train", "valid"),
    (["Annotations/a.xml", "ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt",
      "ImageSets/Main/cat_trainval.txt"], "voc", "trainval", "test"),
    (["VOC2007/Annotations/a.xml", "VOC2007/ImageSets/Main/trainval.txt",
      "VOC2007/ImageSets/Main/test.txt", "VOC2012/ImageSets/Main/trainval.txt"],
     "voc", "2007_trainval 2012_trainval", "2007_test"),
    (["VOCdevkit/VOC2012/ImageSets/Main/trainval.txt", "VOCdevkit/VOC2012/Annotations/a.xml",
      "VOCdevkit/VOC2012/ImageSets/Main/train.txt", "VOCdevkit/VOC2012/ImageSets/Main/val.txt"],
     "voc", "2012_train", "2012_val"),
    (["annotations/instances_train2017.json", "annotations/instances_val2017.json",
      "annotations/captions_train2017.json", "annotations/image_info_test2017.json"],
     "coco", "train2017", "val2017"),
    (["annotations/train.json", "annotations/test.json"], "coco", "train", "test"),
    (["train/_annotations.coco.json", "valid/_annotations.coco.json"], "coco", "train", "valid"),
    (["annotations/instances_default.json", "images/a.jpg"], "coco", "train", "val"),
    (["annotations.json", "a.jpg"], "coco", "train", "val"),
    (["data.yaml", "train/images/a.jpg", "valid/images/a.jpg"], "yolo", "train", "valid"),
    (["images/train2017/a.jpg", "labels/train2017/a.txt", "images/val2017/a.jpg"],
     "yolo", "train2017", "val2017"),
    (["images/a.jpg", "labels/a.txt", "classes.txt", "notes.json"], "yolo", "train", "val"),
    (["a.jpg", "a.txt"], "yolo", "train", "val"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "kind", "train", "val"), FOUND, ids=lambda value: str(value)[:40]
)
def test_format_and_sets_are_found(
    tmp_path: Path, files: Sequence[str], kind: str, train: str, val: str
) -> None:
    layout = find_layout(write(tmp_path, *files), ["train"], ["val"])
    assert (layout.format, layout.train, layout.val) == (kind, train.split(), val.split())
    assert layout.line.startswith(f"data.format={kind}: ")
    assert (
        f"data.train=[{','.join(train.split())}] data.val=[{','.join(val.split())}]" in layout.line
    )


def test_sets_that_were_asked_for_are_kept(tmp_path: Path) -> None:
    root = write(
        tmp_path, "annotations/instances_train2017.json", "annotations/instances_val2017.json"
    )
    layout = find_layout(root, ["val2017"], [])
    assert (layout.train, layout.val) == (["val2017"], [])
    assert find_layout(root, ["train"], []).train == ["train2017"]


def test_sets_with_names_of_their_own_are_left_to_the_reader(tmp_path: Path) -> None:
    root = write(tmp_path, "annotations/instances_mine.json", "annotations/instances_yours.json")
    layout = find_layout(root, ["train"], ["val"])
    assert (layout.train, layout.val) == (["train"], ["val"])


def test_two_formats_are_named_with_what_speaks_for_them(tmp_path: Path) -> None:
    write(tmp_path, "Annotations/a.xml", "images/a.jpg", "labels/a.txt")
    with pytest.raises(ValueError, match=r"more than one format") as error:
        find_layout(tmp_path, ["train"], ["val"])
    for part in (
        "voc (1 .xml in Annotations)", "yolo (labels/a.txt)", "data.format=voc or data.format=yolo",
    ):  # fmt: skip
        assert part in str(error.value)


def test_nothing_that_is_known_is_told_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "pictures/a.jpg", ".hidden/a.txt")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "page.xml").write_text("<html/>")
    (tmp_path / "other.yaml").write_text("a: [")
    with pytest.raises(FileNotFoundError) as error:
        find_layout(tmp_path, ["train"], ["val"])
    text = str(error.value)
    for part in ("<annotation>", "annotations/*.json", "data.yaml", "labels/*.txt"):
        assert part in text
    assert "there is pictures/, notes.txt, other.yaml, page.xml, results.json;" in text
    assert "data.format=" in text
    with pytest.raises(FileNotFoundError, match=r"no such folder; name the place: data.root=DIR"):
        find_layout(tmp_path / "no", ["train"], ["val"])
    with pytest.raises(FileNotFoundError, match=f"a file: data.root={tmp_path}"):
        find_layout(tmp_path / "notes.txt", ["train"], ["val"])


def test_the_datasets_at_hand_are_recognised(shared_data: Path) -> None:
    assert find_layout(shared_data / "bccd", ["train"], ["val"]).line == (
        "data.format=voc: 364 .xml in Annotations; data.train=[train] data.val=[val]"
    )
    assert find_layout(shared_data / "coco", ["train"], ["val"]).line == (
        "data.format=coco: annotations/instances_train2017.json and 1 more;"
        " data.train=[train2017] data.val=[val2017]"
    )
