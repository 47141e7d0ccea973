"""The mistakes that own data come with, each through the door that a training takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest
from PIL import Image

import train
from detectors.commands.screen import guarded
from detectors.commands.train.datasets import Datasets, open_datasets
from detectors.experiment.recipe import DataFormat, Recipe

SIZE = (60, 40)  # width, height
BOX = (11, 6, 30, 25)  # VOC's corners, counted from 1
FORMATS = ("voc", "coco", "yolo")

Objects = Sequence[Tuple[str, Tuple[float, float, float, float]]]


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (number, 3 * number % 256, 90)).save(path)


class Writer:
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


def own(root: Path, **settings: Any) -> Recipe:
    """A recipe for a folder that nothing is said of."""
    recipe = Recipe()
    recipe.data.root = str(root)
    recipe.data.format = DataFormat.auto
    for name, value in settings.items():
        setattr(recipe.data, name, value)
    return recipe


def pictures_and_boxes(datasets: Datasets) -> List[Any]:
    assert datasets.val is not None
    return [
        [(Path(sample.name).stem, sample.boxes.tolist(), sample.labels.tolist()) for sample in part]
        for part in (
            [one[index] for index in range(len(one))] for one in (datasets.train, datasets.val)
        )
    ]


def test_one_dataset_in_three_formats_is_one_dataset(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ["cat", "dog"])
    writer.add("train", ("cat", BOX), ("dog", (1, 1, 60, 40)))
    writer.add("train", ("dog", (21, 9, 40, 40)))
    writer.add("val", ("cat", (1, 2, 3, 4)))
    opened = {form: open_datasets(own(writer.write(form))) for form in FORMATS}
    for form, datasets in opened.items():
        assert datasets.lines[:2] == (
            "train 2 images, 3 boxes; val 1 images, 1 boxes", "2 classes: cat 1, dog 2",
        )  # fmt: skip
        assert datasets.lines[2].startswith(f"data.format={form}: ")
        assert datasets.settings.format is DataFormat[form]
        assert datasets.report.counts() == {}
        assert datasets.category_ids == (1, 2)
        train, val = pictures_and_boxes(datasets)
        assert train[0][0] == "train0"
        assert [[round(v, 3) for v in box] for box in train[0][1]] == [
            [10, 5, 30, 25], [0, 0, 60, 40],
        ]  # fmt: skip
        assert [one[2] for one in train + val] == [[0, 1], [1], [0]]


@pytest.mark.parametrize("form", FORMATS)
def test_labels_that_differ_in_case_are_a_warning_that_says_how_to_join_them(
    tmp_path: Path, form: str
) -> None:
    writer = Writer(tmp_path, ["Cat", "cat"])
    for split in ("train", "val"):
        writer.add(split, ("Cat", BOX), ("cat", (1, 1, 60, 40)))
    root = writer.write(form)
    datasets = open_datasets(own(root))
    assert datasets.class_names == ("Cat", "cat")
    assert datasets.lines[-1] == (
        "warning: 1 class names that differ only in case: Cat and cat"
        " (data.classes_alias={Cat: cat})"
    )
    joined = open_datasets(own(root, classes_alias={"Cat": "cat"}))
    assert joined.class_names == ("cat",)
    assert joined.lines[1] == "1 class: cat 2"
    assert joined.report.counts() == {}


@pytest.mark.parametrize("form", FORMATS)
def test_one_class_is_enough_and_one_without_a_picture_to_train_on_is_named(
    tmp_path: Path, form: str
) -> None:
    writer = Writer(tmp_path / "one", ["cat"])
    for split in ("train", "val"):
        writer.add(split, ("cat", BOX))
    datasets = open_datasets(own(writer.write(form)))
    assert datasets.class_names == ("cat",)
    assert datasets.lines[1] == "1 class: cat 1"
    assert not any(line.startswith("warning") for line in datasets.lines)
    writer = Writer(tmp_path / "two", ["cat", "newt"])
    writer.add("train", ("cat", BOX))
    writer.add("val", ("newt", BOX))
    lines = open_datasets(own(writer.write(form))).lines
    assert lines[-1] == (
        "warning: 1 classes without a box in the training split: newt (split train)"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_in_two_splits_is_told_by_its_bytes(tmp_path: Path, form: str) -> None:
    writer = Writer(tmp_path, ["cat"])
    for split in ("train", "train", "val", "val"):
        writer.add(split, ("cat", BOX))
    root = writer.write(form)
    folder = root / "images" if form == "yolo" else root
    shutil.copy(folder / "train/train1.png", folder / "val/val0.png")
    lines = open_datasets(own(root)).lines
    name, other = (folder.relative_to(root) / f for f in ("val/val0.png", "train/train1.png"))
    assert lines[-1] == (
        f"warning: 1 images that are in two splits: {name} (val; also in train: {other})"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_empty_pictures_are_kept_and_counted(tmp_path: Path, form: str) -> None:
    writer = Writer(tmp_path, ["cat"])
    writer.add("val", ("cat", BOX))
    writer.add("train", ("cat", BOX))
    for _ in range(31):
        writer.add("train")
    datasets = open_datasets(own(writer.write(form)))
    assert "31 images of train have no box and are kept" in datasets.lines
    assert len(datasets.train) == 32
    assert datasets.train[31].boxes.shape == (0, 4)


def test_annotations_without_a_picture_are_left_out_and_named(tmp_path: Path) -> None:
    for form, lone in (("voc", "train/train{}.png"), ("yolo", "images/train/train{}.png")):
        writer = Writer(tmp_path, ["cat"])
        for split in ("train", "train", "train", "val"):
            writer.add(split, ("cat", BOX))
        root = writer.write(form)
        for number in (0, 2):
            (root / lone.format(number)).unlink()
        datasets = open_datasets(own(root))
        assert len(datasets.train) == 1
        text = "train/train{}.xml" if form == "voc" else "labels/train/train{}.txt"
        assert datasets.lines[-1] == (
            f"warning: 2 annotations without an image, left out: {text.format(0)}, {text.format(2)}"
        )


ODD = """<annotation>
<filename>{filename}</filename>
<path>C:\\Users\\me\\Pictures\\{filename}</path>
<object><name>cat</name><bndbox>
<xmin>{corners[0]}</xmin><ymin>{corners[1]}</ymin><xmax>{corners[2]}</xmax><ymax>{corners[3]}</ymax>
</bndbox></object>
</annotation>
"""


@pytest.mark.parametrize(
    ("filename", "corners", "box"),
    [
        ("photo", (11, 6, 30, 25), [10, 5, 30, 25]),  # no extension
        ("photo.png", (11.5, 6.25, 30.5, 25.75), [10.5, 5.25, 30.5, 25.75]),  # fractions
        ("D:\\set\\photo.png", (11, 6, 30, 25), [10, 5, 30, 25]),  # Windows' path
        ("photo.jpg", (0, 6, 30, 25), [0, 6, 30, 25]),  # another extension; counted from 0
    ],
)
def test_odd_xml_loads(
    tmp_path: Path, filename: str, corners: Tuple[float, ...], box: List[float]
) -> None:
    for split in ("train", "val"):
        picture(tmp_path / split / "photo.png", len(split))
        text = ODD.format(filename=filename, corners=corners)
        (tmp_path / split / "sheet.xml").write_text(text)
    datasets = open_datasets(own(tmp_path))
    assert datasets.train[0].boxes.tolist() == [box]  # without <difficult>, too
    assert not datasets.train.annotations.difficult.any()
    counted = [line for line in datasets.lines if "counted from 0" in line]
    assert len(counted) == (corners[0] == 0)  # the rule is printed once for both splits
    if counted:
        assert counted[0].startswith(
            "warning: 2 boxes counted from 0: corners are taken as they stand: "
        )


def screen(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> Tuple[int, str]:
    """Exit code, and what is shown: never more than six lines."""

    def run() -> int:
        open_datasets(recipe)
        return 0

    code = guarded(run)
    text = capsys.readouterr().err
    assert len(text.splitlines()) <= 6
    return code, text


def test_what_cannot_be_told_is_a_usage_error_of_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = screen(own(tmp_path), capsys)
    assert code == 2
    assert text.startswith(f"error: no annotations in {tmp_path}; data.format=auto looks for")
    assert "there is nothing; name another place: data.root=DIR" in text
    writer = Writer(tmp_path, ["cat"])
    for split in ("train", "val"):
        writer.add(split, ("cat", BOX))
    for form in ("voc", "yolo"):
        writer.write(form)
    shutil.copytree(tmp_path / "voc" / "train", tmp_path / "yolo" / "train")
    code, text = screen(own(tmp_path / "yolo"), capsys)
    assert code == 2
    assert "voc (1 .xml in train) and yolo (data.yaml); say data.format=voc or" in text
    assert len(open_datasets(own(tmp_path / "yolo", format=DataFormat.yolo)).train) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_missing_val_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    writer = Writer(tmp_path, ["cat"])
    for split in ("train", "val"):
        writer.add(split, ("cat", BOX))
    root = writer.write(form)
    shutil.rmtree(root / "images/val" if form == "yolo" else root / "val")
    code, text = screen(own(root), capsys)
    assert code == 2
    assert text.endswith("to go on without val: data.val=[]\n")
    assert len(open_datasets(own(root, val=[])).train) == 1


def test_numbers_that_are_no_shares_stop_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path, ["cat"])
    for split in ("train", "val"):
        writer.add(split, ("cat", BOX))
    root = writer.write("yolo")
    (root / "labels/train/train0.txt").write_text("0 20 15 20 20\n0 0.5 0.5 0.1 0.1\n7 .5 .5 .1 .1")
    code, text = screen(own(root), capsys)
    assert code == 1
    assert (
        "1 objects of a class that is not in the list: labels/train/train0.txt:3 (class 7)" in text
    )
    assert "1 of 3 boxes are unusable" in text
    assert "task=check names all 2 defects; data.skip_bad=true leaves these out" in text


def test_the_script_refuses_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["recipe=voc_custom", "model.weights=random", "device=cpu"]
    assert train.main([*words, f"data.root={tmp_path}"]) == 2
    assert "data.format=auto looks for" in capsys.readouterr().err
    assert train.main([*words, "data.format=darknet"]) == 2
    assert "data.format must be one of auto, voc, coco, yolo, generated" in capsys.readouterr().err
    assert list((tmp_path / "here").iterdir()) == []
