"""COCO's files as other programs write them: what they leave out, and what cannot be used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from PIL import Image

from data.coco import CocoSplits, read_coco

Content = Dict[str, Any]


def write(root: Path, change: Callable[[Content], object]) -> Path:
    """A picture of 60 x 40 with a dog, in a file that something was changed about."""
    (root / "images").mkdir()
    Image.new("RGB", (60, 40)).save(root / "images" / "a.png")
    content: Content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [{"id": 0, "image_id": 4, "category_id": 7, "bbox": [10, 5, 20, 15]}],
        "categories": [{"id": 7, "name": "dog"}],
    }
    change(content)
    (root / "train.json").write_text(json.dumps(content))
    return root


def read(root: Path) -> CocoSplits:
    return read_coco(root, {"train": ["train"]})


CHANGES: Dict[str, Callable[[Content], object]] = {
    "size missing": lambda c: [c["images"][0].pop(side) for side in ("width", "height")],
    "size null": lambda c: c["images"][0].update(width=None, height=None),
    "size 0": lambda c: c["images"][0].update(width=0, height=0),
    "size as text": lambda c: c["images"][0].update(width="60", height="40"),
    "ids as text": lambda c: [
        c["images"][0].update(id="4"),
        c["annotations"][0].update(image_id="4", category_id="7"),
        c["categories"][0].update(id="7"),
    ],
    "image_id as text": lambda c: c["annotations"][0].update(image_id="4"),
    "area null": lambda c: c["annotations"][0].update(area=None),
    "area nan": lambda c: c["annotations"][0].update(area=math.nan),
    "iscrowd null": lambda c: c["annotations"][0].update(iscrowd=None),
    "iscrowd as text": lambda c: c["annotations"][0].update(iscrowd="0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_other_programs_write_is_the_same_dataset(tmp_path: Path, change: str) -> None:
    splits, report, ids = read(write(tmp_path, CHANGES[change]))
    table = splits["train"]
    assert table.sizes.tolist() == [[40, 60]]
    assert table.image_ids.tolist() == [4]
    assert table.boxes.tolist() == [[10, 5, 30, 20]]
    assert table.areas.tolist() == [300]
    assert table.crowd.tolist() == [False]
    assert (table.class_names, ids) == (("dog",), (7,))
    assert not report.defects


@pytest.mark.parametrize("value", [1, 1.0, True, "1"])
def test_a_crowd_may_be_true_or_a_text(tmp_path: Path, value: object) -> None:
    root = write(tmp_path, lambda c: c["annotations"][0].update(iscrowd=value))
    assert read(root).splits["train"].crowd.tolist() == [True]


def test_names_that_are_numbers_are_texts(tmp_path: Path) -> None:
    root = write(tmp_path, lambda c: c["categories"][0].update(name=7))
    assert read(root).splits["train"].class_names == ("7",)


def test_categories_of_one_name_are_said_to_be_one_class(tmp_path: Path) -> None:
    root = write(tmp_path, lambda c: c["categories"].append({"id": 9, "name": "dog"}))
    splits, report, ids = read(root)
    assert (splits["train"].class_names, ids) == (("dog",), (7,))
    assert report.notes == ["classes 7, 9 are all called dog: taken as one"]


BAD: Dict[str, Callable[[Content], object]] = {
    r"images must be a list of objects": lambda c: c.update(images=None),
    r"categories must be a list of objects": lambda c: c.update(categories={"7": "dog"}),
    r"annotations must be a list of objects": lambda c: c["annotations"].append([1]),
    r"images\[0\] has no id that is a whole number": lambda c: c["images"][0].update(id="a"),
    r"images\[0\] \(id 4\) has no file_name": lambda c: c["images"][0].pop("file_name"),
    r"categories\[0\] has no id": lambda c: c["categories"][0].pop("id"),
    r"categories\[0\] \(id 7\) has no name": lambda c: c["categories"][0].update(name=None),
    r"categories dog and cat have the same id 7": lambda c: c["categories"].append(
        {"id": 7, "name": "cat"}
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_used_is_named_by_its_place(tmp_path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=r"train\.json: " + message):
        read(write(tmp_path, BAD[message]))


NAMES = {
    "below the root": "images/a.png",
    "with a dot": "./a.png",
    "up and down": "../images/a.png",
    "Windows": "images\\a.png",
    "another machine": "C:\\Users\\me\\images\\a.png",
    "another root": "/home/me/mine/a.png",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_found_by_the_end_of_its_path(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, lambda c: c["images"][0].update(file_name=NAMES[name]))
    assert read(root).splits["train"].names.tolist() == ["images/a.png"]


def test_pictures_are_found_by_name_in_a_folder_of_any_name(tmp_path: Path) -> None:
    root = write(tmp_path, lambda c: None)
    (root / "images").rename(root / "train_images")
    assert read(root).splits["train"].names.tolist() == ["train_images/a.png"]
    (root / "val_images").mkdir()
    Image.new("RGB", (60, 40)).save(root / "val_images" / "a.png")  # now it could be either
    with pytest.raises(FileNotFoundError, match=r"no images of .*: looked for a\.png in "):
        read(root)


def test_the_folder_that_has_the_pictures_is_taken(tmp_path: Path) -> None:
    root = write(tmp_path, lambda c: None)
    (root / "train").mkdir()  # of something else
    assert read(root).splits["train"].names.tolist() == ["images/a.png"]


def test_one_missing_picture_of_a_whole_file_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, lambda c: c["images"].insert(0, {"id": 1, "file_name": "gone.png"}))
    (root / "train.json").rename(root / "mine.json")
    with pytest.raises(FileNotFoundError, match=r"names 2 images; 1 are not there, .*gone\.png"):
        read(root)


def test_names_of_one_end_are_not_one_picture(tmp_path: Path) -> None:
    second = {"id": 5, "file_name": "two/a.png"}
    root = write(
        tmp_path,
        lambda c: [c["images"][0].update(file_name="one/a.png"), c["images"].append(second)],
    )
    with pytest.raises(FileNotFoundError, match=r"looked for one/a\.png in "):
        read(root)  # there is images/a.png, which may be either
    for folder in ("one", "two"):
        (root / folder).mkdir()
        Image.new("RGB", (60, 40)).save(root / folder / "a.png")
    assert read(root).splits["train"].names.tolist() == ["one/a.png", "two/a.png"]
