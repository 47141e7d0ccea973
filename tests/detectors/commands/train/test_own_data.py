"""The mistakes that own data come with, each through the door that a training takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, List, Tuple

import pytest

import train
from detectors.commands.screen import guarded
from detectors.commands.train.datasets import Datasets, open_datasets
from detectors.experiment.recipe import DataFormat, Recipe
from tests.detectors.commands.train.own_data import BOX, FORMATS, OwnData, picture


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
    data = OwnData(tmp_path, ["cat", "dog"])
    data.add("train", ("cat", BOX), ("dog", (1, 1, 60, 40)))
    data.add("train", ("dog", (21, 9, 40, 40)))
    data.add("val", ("cat", (1, 2, 3, 4)))
    opened = {form: open_datasets(own(data.write(form))) for form in FORMATS}
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
    data = OwnData(tmp_path, ["Cat", "cat"])
    for split in ("train", "val"):
        data.add(split, ("Cat", BOX), ("cat", (1, 1, 60, 40)))
    root = data.write(form)
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
    data = OwnData(tmp_path / "one", ["cat"])
    for split in ("train", "val"):
        data.add(split, ("cat", BOX))
    datasets = open_datasets(own(data.write(form)))
    assert datasets.class_names == ("cat",)
    assert datasets.lines[1] == "1 class: cat 1"
    assert not any(line.startswith("warning") for line in datasets.lines)
    data = OwnData(tmp_path / "two", ["cat", "newt"])
    data.add("train", ("cat", BOX))
    data.add("val", ("newt", BOX))
    lines = open_datasets(own(data.write(form))).lines
    assert lines[-1] == (
        "warning: 1 classes without a box in the training split: newt (split train)"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_in_two_splits_is_told_by_its_bytes(tmp_path: Path, form: str) -> None:
    data = OwnData(tmp_path, ["cat"])
    for split in ("train", "train", "val", "val"):
        data.add(split, ("cat", BOX))
    root = data.write(form)
    folder = root / "images" if form == "yolo" else root
    shutil.copy(folder / "train/train1.png", folder / "val/val0.png")
    lines = open_datasets(own(root)).lines
    name, other = (folder.relative_to(root) / f for f in ("val/val0.png", "train/train1.png"))
    assert lines[-1] == (
        f"warning: 1 images that are in two splits: {name} (val; also in train: {other})"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_empty_pictures_are_kept_and_counted(tmp_path: Path, form: str) -> None:
    data = OwnData(tmp_path, ["cat"])
    data.add("val", ("cat", BOX))
    data.add("train", ("cat", BOX))
    for _ in range(31):
        data.add("train")
    datasets = open_datasets(own(data.write(form)))
    assert "31 images of train have no box and are kept" in datasets.lines
    assert len(datasets.train) == 32
    assert datasets.train[31].boxes.shape == (0, 4)


def test_annotations_without_a_picture_are_left_out_and_named(tmp_path: Path) -> None:
    for form, lone in (("voc", "train/train{}.png"), ("yolo", "images/train/train{}.png")):
        data = OwnData(tmp_path, ["cat"])
        for split in ("train", "train", "train", "val"):
            data.add(split, ("cat", BOX))
        root = data.write(form)
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
    data = OwnData(tmp_path, ["cat"])
    for split in ("train", "val"):
        data.add(split, ("cat", BOX))
    for form in ("voc", "yolo"):
        data.write(form)
    shutil.copytree(tmp_path / "voc" / "train", tmp_path / "yolo" / "train")
    code, text = screen(own(tmp_path / "yolo"), capsys)
    assert code == 2
    assert "voc (1 .xml in train) and yolo (data.yaml); say data.format=voc or" in text
    assert len(open_datasets(own(tmp_path / "yolo", format=DataFormat.yolo)).train) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_missing_val_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    data = OwnData(tmp_path, ["cat"])
    for split in ("train", "val"):
        data.add(split, ("cat", BOX))
    root = data.write(form)
    shutil.rmtree(root / "images/val" if form == "yolo" else root / "val")
    code, text = screen(own(root), capsys)
    assert code == 2
    assert text.endswith("to go on without val: data.val=[]\n")
    assert len(open_datasets(own(root, val=[])).train) == 1


def test_numbers_that_are_no_shares_stop_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = OwnData(tmp_path, ["cat"])
    for split in ("train", "val"):
        data.add(split, ("cat", BOX))
    root = data.write("yolo")
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
