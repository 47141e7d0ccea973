"""YOLO's text files, in the layouts that people have them in; each defect is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest
import yaml
from PIL import Image

from data.annotations import AnnotatedImages
from data.yolo import read_yolo

CAT = "0 0.5 0.5 0.5 0.25"
BOX = [15.0, 15.0, 45.0, 25.0]  # of CAT, in a picture of 60 x 40


def picture(path: Path, size: Tuple[int, int] = (60, 40)) -> None:
    """`size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(path.name.encode()) % 251
    Image.new("RGB", size, (shade, len(path.stem), 0)).save(path)


def write(root: Path, image: str, label: str, text: str = CAT) -> None:
    """A picture and its label file, both below the root."""
    picture(root / image)
    (root / label).parent.mkdir(parents=True, exist_ok=True)
    (root / label).write_text(f"{text}\n")


def write_yaml(root: Path, name: str = "data.yaml", **content: Any) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(yaml.safe_dump({"names": ["cat", "dog"], **content}))


def test_centres_and_sizes_in_shares_become_corners_in_pixels(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt", "1 0.25 0.5 0.5 0.25")
    write_yaml(tmp_path, train="images/train")
    splits, report = read_yolo(tmp_path, {"train": ["train"]})
    table = splits["train"]
    assert table.names.tolist() == ["images/train/a.jpg"]
    assert table.sizes.tolist() == [[40, 60]]
    assert table.boxes.tolist() == [[0.0, 15.0, 30.0, 25.0]]  # 60 wide: centre 15, 30 wide
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [1]
    assert table.areas.tolist() == [300.0]
    assert not table.difficult.any()
    assert not table.crowd.any()
    assert report.counts() == {"not_trained": 1}
    assert AnnotatedImages(tmp_path, table)[0].boxes.tolist() == [[0.0, 15.0, 30.0, 25.0]]


def test_an_outline_becomes_the_box_around_it(tmp_path: Path) -> None:
    write(tmp_path, "train/images/a.jpg", "train/labels/a.txt", "0 .25 .5 .75 .375 .5 .625")
    write_yaml(tmp_path)
    assert read_yolo(tmp_path, {"t": ["train"]}).splits["t"].boxes.tolist() == [BOX]


LAYOUTS: Dict[str, Tuple[str, str, Dict[str, Any]]] = {
    "ultralytics": (
        "images/{}/a.jpg", "labels/{}/a.txt",
        {"path": ".", "train": "images/train", "val": "images/val"},
    ),
    "path of another machine": (
        "images/{}2017/a.jpg", "labels/{}2017/a.txt",
        {"path": "../datasets/coco8", "train": "images/train2017", "val": ["images/val2017"]},
    ),
    "roboflow": (
        "{}/images/a.jpg", "{}/labels/a.txt",
        {"train": "../train/images", "val": "../val/images", "nc": 2},
    ),
    "whole paths of another machine": (
        "{}/images/a.jpg", "{}/labels/a.txt",
        {"train": "/content/mine/train/images", "val": "C:\\mine\\val\\images"},
    ),
    "names alone": ("images/{}/a.jpg", "labels/{}/a.txt", {}),
    "split first": ("{}/images/a.jpg", "{}/labels/a.txt", {}),
    "beside": ("{}/a.jpg", "{}/a.txt", {}),
    "beside, in images": ("images/{}/a.jpg", "images/{}/a.txt", {}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    image, label, keys = LAYOUTS[layout]
    for split in ("train", "val"):
        write(tmp_path, image.format(split), label.format(split))
    write_yaml(tmp_path, **keys)
    splits, report = read_yolo(tmp_path, {"train": ["train"], "val": ["val"]})
    for split in ("train", "val"):
        assert splits[split].names.tolist() == [image.format(split)]
        assert splits[split].boxes.tolist() == [BOX]
    assert len(report.notes) == (layout == "path of another machine")
    assert set(report.counts()) == {"not_trained"}  # no dog


def test_val_may_be_called_valid(tmp_path: Path) -> None:
    write(tmp_path, "valid/images/a.jpg", "valid/labels/a.txt")
    write_yaml(tmp_path)
    assert len(read_yolo(tmp_path, {"val": ["val"]}).splits["val"]) == 1


@pytest.mark.parametrize(
    "names", [["no", "1"], {0: "no", 1: "1"}], ids=["list", "dictionary"]
)  # `no` is false and 1 a number to YAML
def test_names_are_texts_whatever_they_are_to_yaml(tmp_path: Path, names: Any) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    (tmp_path / "data.yaml").write_text(
        "names: [no, 1]" if isinstance(names, list) else "names:\n  0: no\n  1: 1\n"
    )
    assert read_yolo(tmp_path, {"t": ["train"]}).splits["t"].class_names == ("no", "1")


@pytest.mark.parametrize("place", ["classes.txt", "obj.names", "labels/classes.txt"])
def test_names_may_be_lines_of_a_file(tmp_path: Path, place: str) -> None:
    write(tmp_path, "images/a.jpg", "labels/a.txt", "1 0.5 0.5 0.5 0.25")
    (tmp_path / place).write_text("cat\ndog\n")
    table = read_yolo(tmp_path, {"t": ["all"]}).splits["t"]
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [1]


def test_numbers_without_names_need_them(tmp_path: Path) -> None:
    write(tmp_path, "images/a.jpg", "labels/a.txt")
    with pytest.raises(ValueError, match=r"labels have numbers alone; (.|\n)*data.classes="):
        read_yolo(tmp_path, {"t": ["all"]})
    table = read_yolo(tmp_path, {"t": ["all"]}, classes=["cat", "dog"]).splits["t"]
    assert table.class_names == ("cat", "dog")


def test_classes_can_be_chosen_and_renamed(tmp_path: Path) -> None:
    text = "\n".join(f"{number} 0.5 0.5 0.{number + 1} 0.25" for number in range(3))
    write(tmp_path, "images/a.jpg", "labels/a.txt", text)
    write_yaml(tmp_path, names=["cat", "dog", "Cat"])
    splits, report = read_yolo(tmp_path, {"t": ["all"]})
    assert report.lines() == [
        "1 class names that differ only in case: Cat and cat (data.classes_alias={Cat: cat})"
    ]
    splits, report = read_yolo(tmp_path, {"t": ["all"]}, aliases={"Cat": "cat"})
    assert splits["t"].class_names == ("cat", "dog")
    assert splits["t"].labels.tolist() == [0, 1, 0]
    assert report.counts() == {}
    chosen = read_yolo(tmp_path, {"t": ["all"]}, classes=["Cat", "dog"]).splits["t"]
    assert chosen.labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"data.classes \['cow'\] are not among .*: cat, dog, Cat"):
        read_yolo(tmp_path, {"t": ["all"]}, classes=["cow"])


def test_a_picture_without_a_label_file_is_a_negative_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    write(tmp_path, "images/train/b.jpg", "labels/train/b.txt", "")
    picture(tmp_path / "images/train/c.jpg")
    write_yaml(tmp_path, names=["cat"])
    splits, report = read_yolo(tmp_path, {"train": ["train"]})
    assert splits["train"].starts.tolist() == [0, 1, 1, 1]
    assert report.notes == ["1 images of train have no label file: nothing is on them"]
    assert report.counts() == {}


def test_a_set_without_any_label_file_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images/train/a.jpg")
    write_yaml(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none of the 1 images of images/train has"):
        read_yolo(tmp_path, {"train": ["train"]})


def test_a_label_file_without_a_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    (tmp_path / "labels/train/ghost.txt").write_text(CAT)
    (tmp_path / "labels/train/notes.txt").write_text("drawn by hand")
    write_yaml(tmp_path, names=["cat"])
    report = read_yolo(tmp_path, {"train": ["train"]}).report
    assert [(defect.kind, defect.where) for defect in report.defects] == [
        ("missing_image", "labels/train/ghost.txt")
    ]


LINES: Dict[str, List[str]] = {
    "bad_line": ["0 0.5 0.5 0.5", "cat 0.5 0.5 0.5 0.5", "0.5 0.5 0.5 0.5 0.5", "-1 .5 .5 .5 .5",
                 "0 0.5 0.5 0.5 0.5 0.9", "0,0.5,0.5,0.5,0.5"],
    "bad_number": ["0 0.5 nan 0.5 0.5", "0 0.5 0.5 inf 0.5"],
    "unknown_class": ["2 0.5 0.5 0.5 0.5"],
    "not_shares": ["0 312 200 100 50", "0 -0.1 0.5 0.1 0.1", "0 0.5 0.5 1.5 0.1"],
    "empty": ["0 0.5 0.5 0 0.5"],
    "inverted": ["0 0.5 0.5 -0.5 0.5"],
    "clipped": ["0 0.9 0.5 0.5 0.5"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "line"), [(kind, line) for kind, lines in LINES.items() for line in lines]
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, kind: str, line: str) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt", f"{CAT}\n\n{line}\n{CAT}")
    write_yaml(tmp_path, names=["cat", "cat"])
    splits, report = read_yolo(tmp_path, {"train": ["train"]})
    assert [(defect.kind, defect.where) for defect in report.defects] == [
        (kind, "labels/train/a.txt:3"),
        ("same_box", "labels/train/a.txt:4"),
    ]
    assert splits["train"].boxes.tolist()[0] == BOX
    assert len(splits["train"].boxes) == 2 + (kind == "clipped")


def test_what_was_rounded_is_not_beyond_the_edge(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt", "0 0.500003 0.5 1.0 0.99999")
    write_yaml(tmp_path, names=["cat"])
    splits, report = read_yolo(tmp_path, {"train": ["train"]})
    assert report.counts() == {}
    assert splits["train"].boxes[0, 2] == 60


def test_a_list_names_pictures_wherever_it_was_written(tmp_path: Path) -> None:
    lines = ["data/obj/a.jpg", "./obj/b.jpg", "/home/me/darknet/data/obj/c.jpg", r"obj\d.jpg"]
    for name in "abcd":
        write(tmp_path, f"obj/{name}.jpg", f"obj/{name}.txt")
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "obj.names").write_text("cat\n")
    found = read_yolo(tmp_path, {"train": ["train"]}).splits["train"].names.tolist()
    assert found == [f"obj/{name}.jpg" for name in "abcd"]
    (tmp_path / "train.txt").write_text("obj/a.jpg\nobj/ghost.jpg")
    with pytest.raises(FileNotFoundError, match=r"names 2 images; 1 are not there, first: obj/gho"):
        read_yolo(tmp_path, {"train": ["train"]})
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"train.txt names no image: it is empty"):
        read_yolo(tmp_path, {"train": ["train"]})


@pytest.mark.parametrize("beside", [False, True])
def test_one_folder_is_split_by_the_seed(tmp_path: Path, beside: bool) -> None:
    for number in range(20):
        image, label = ("", "") if beside else ("images/", "labels/")
        write(tmp_path, f"{image}x{number}.jpg", f"{label}x{number}.txt")
    (tmp_path / "classes.txt").write_text("cat\n")
    wanted = {"train": ["train"], "val": ["val"]}
    splits, report = read_yolo(tmp_path, wanted, seed=1, validation=0.25)
    train, val = (set(splits[split].names.tolist()) for split in wanted)
    assert (len(train), len(val), train & val) == (15, 5, set())
    (note,) = report.notes
    assert note.endswith(": split 75% train, 25% val by seed 1")
    assert report.counts() == {}
    other = read_yolo(tmp_path, wanted, seed=2, validation=0.25).splits["val"]
    assert set(other.names.tolist()) != val


def test_yamls_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt")

    def refused(text: str, wanted: str) -> None:
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises((ValueError, FileNotFoundError), match=wanted):
            read_yolo(tmp_path, {"train": ["train"]})

    refused("names: [cat", "data.yaml is not YAML")
    refused("names: obj.names", "names must be a list, or a number and a name each, got obj.names")
    refused("names: [cat]\nnc: 2", "nc is 2, but there are 1 names")
    refused("names: [cat]\nkpt_shape: [17, 3]", "labels of poses are not read")
    refused("names: [cat]\ntrain: images/nowhere", "says train: images/nowhere, which is not there")
    refused("names: [cat]\nval: images/train", "no set 'train' in .*: it has val")
    (tmp_path / "data.yaml").unlink()
    for name in ("one.yaml", "two.yml"):
        write_yaml(tmp_path, name)
    with pytest.raises(ValueError, match=r"several yaml files with class names: one.yaml, two.yml"):
        read_yolo(tmp_path, {"train": ["train"]})


def test_a_missing_dataset_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; expected\n(.|\n)*labels/train"):
        read_yolo(tmp_path / "no", {"train": ["train"]})
    with pytest.raises(FileNotFoundError, match=r"no pictures in it; expected\n"):
        read_yolo(tmp_path, {"train": ["train"]})


def sets(*names: str) -> Dict[str, Sequence[str]]:
    return {name: [name] for name in names}


def test_pictures_in_two_splits_are_named(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    write_yaml(tmp_path, train="images/train", val="images/train", names=["cat"])
    report = read_yolo(tmp_path, sets("train", "val")).report
    assert report.lines() == ["1 images that are in two splits: images/train/a.jpg (train and val)"]
