"""Label files and yamls as editors, exporters and hands leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import pytest
from PIL import Image

from data.layout import find_layout
from data.yolo import YoloSplits, read_yolo

BOX = "0 0.5 0.5 0.5 0.25"


def write(
    root: Path, *files: str, text: bytes = BOX.encode(), yaml: str = "names: [cat]\n"
) -> Path:
    """Pictures of 60 x 40 in `images/train`, and what lies in their label files."""
    for name in files:
        for folder in ("images", "labels"):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
        number = len(list((root / "images/train").iterdir()))
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / f"images/train/{name}.png")
        (root / f"labels/train/{name}.txt").write_bytes(text)
    if yaml:
        (root / "data.yaml").write_text(yaml)
    return root


def read(root: Path, sets: Sequence[str] = ("train",)) -> YoloSplits:
    return read_yolo(root, {"train": sets})


@pytest.mark.parametrize(
    "text",
    [b"\xef\xbb\xbf" + BOX.encode(), b"\r\n\r\n" + BOX.encode() + b"\r\n", b"0 -0.01 0.5 0.1 0.1"],
    ids=["a mark of UTF-8", "blank lines of Windows", "a centre outside"],
)
def test_a_label_is_told_by_the_first_line_that_is_not_blank(tmp_path: Path, text: bytes) -> None:
    root = write(tmp_path, "a", text=text, yaml="")
    assert find_layout(root, ["train"], ["val"]).format == "yolo"
    (root / "images/train/a.png").rename(root / "images/train/b.png")
    (root / "labels/train/b.txt").write_text(BOX)
    (root / "classes.txt").write_text("cat\n")
    assert read(root).report.counts() == {"missing_image": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"0,0.5,0.5,0.5,0.25", "labels/train/a.txt begins with '0,0.5,0.5,0.5,0.25', which is no"),
        (b"\ncat 0.5 0.5 0.5 0.25", "labels/train/a.txt begins with 'cat 0.5 0.5 0.5 0.25'"),
        (b"\n", "labels/train/a.txt and all other labels are empty"),
    ],
)
def test_files_where_labels_would_be_say_why_they_are_none(
    tmp_path: Path, text: bytes, said: str
) -> None:
    root = write(tmp_path, "a", "b", text=text, yaml="")
    with pytest.raises(FileNotFoundError, match="no annotations in") as error:
        find_layout(root, ["train"], ["val"])
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 6


def test_labels_may_have_a_capital_without_the_pictures(tmp_path: Path) -> None:
    root = write(tmp_path, "a")
    (root / "labels").rename(root / "Labels")
    assert read(root).splits["train"].boxes.tolist() == [[15, 15, 45, 25]]


@pytest.mark.parametrize("nothing", ["null", "~", "", "[]"])
def test_a_set_that_is_null_is_none(tmp_path: Path, nothing: str) -> None:
    root = write(tmp_path, "a", yaml=f"train: images/train\nval: {nothing}\nnames: [cat]\n")
    assert len(read(root).splits["train"]) == 1
    with pytest.raises(FileNotFoundError, match=r"no set 'val' in .*: it has train"):
        read(root, ["val"])


@pytest.mark.parametrize("names", ["[{0: cat}, {1: dog}]", "[cat, '']", "{0: [cat]}"])
def test_names_that_are_no_texts_are_refused(tmp_path: Path, names: str) -> None:
    with pytest.raises(ValueError, match="names must be a list, or a number and a name each"):
        read(write(tmp_path, "a", yaml=f"names: {names}\n"))


def test_what_is_no_yaml_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.yaml is not YAML, line 3: "):
        read(write(tmp_path, "a", yaml="train: images/train\nnames: [cat\nnc: 1\n"))


def test_numbers_of_one_name_are_said_to_be_one_class(tmp_path: Path) -> None:
    splits, report = read(write(tmp_path, "a", yaml="names: [cat, dog, cat]\n"))
    assert splits["train"].class_names == ("cat", "dog")
    assert report.notes == ["classes 0, 2 are all called cat: taken as one"]


def test_a_number_without_a_name_is_told_beside_those_that_have_one(tmp_path: Path) -> None:
    report = read(write(tmp_path, "a", text=b"3 .5 .5 .5 .5", yaml="names: [a, b, c]\n")).report
    assert report.line("unknown_class").endswith("a.txt:1 (class 3); names are of 0 to 2")
