"""A small dataset with one of every defect: each is named by kind and file, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import pytest
from PIL import Image

import train
from data.defects import KINDS
from detectors.commands.screen import guarded
from detectors.commands.train.datasets import open_datasets
from detectors.experiment.recipe import DataFormat, Recipe, Task

Corners = Tuple[object, object, object, object]
Thing = Tuple[Optional[str], Optional[Corners]]
BOX: Corners = (11, 6, 30, 25)
SIZE = (40, 60)
CLASSES = ["cat", "dog", "Dog", "newt"]


def xml(*things: Thing, size: Tuple[int, int] = SIZE) -> str:
    """An annotation; a name or corners that are None are left out."""
    lines = [
        "<annotation>",
        f"<size><width>{size[1]}</width><height>{size[0]}</height></size>",
    ]
    for name, corners in things:
        box = ""
        if corners is not None:
            keys = ("xmin", "ymin", "xmax", "ymax")
            box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners))
            box = f"<bndbox>{box}</bndbox>"
        lines += ["<object>", f"<name>{name}</name>" if name else "", box, "</object>"]
    return "\n".join([*lines, "</annotation>"])


class Garden:
    """A dataset to plant defects in.

    Args:
        root: of the dataset; made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lists: Dict[str, List[str]] = {"train": [], "val": []}
        self.planted: Set[Tuple[str, str]] = set()
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)

    def picture(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def add(
        self, name: str, text: str = "", *, split: str = "train", size: Tuple[int, int] = SIZE
    ) -> None:
        """A picture, of its own colour, with its annotation; healthy unless `text` is not."""
        (self.root / "Annotations" / f"{name}.xml").write_text(text or xml(("cat", BOX)))
        shade = len(self.lists["train"] + self.lists["val"])
        Image.new("RGB", (size[1], size[0]), (shade, 7 * shade, 90)).save(self.picture(name))
        self.lists[split].append(name)

    def plant(self, kind: str, where: str) -> None:
        """What the report has to name."""
        self.planted.add((kind, where))

    def write_lists(self) -> None:
        for split, names in self.lists.items():
            path = self.root / "ImageSets" / "Main" / f"{split}.txt"
            path.write_text("".join(f"{name}\n" for name in names))


def planted(root: Path) -> Garden:
    """Twenty-two defects."""
    garden = Garden(root)
    for number in range(3):
        garden.add(f"healthy_{number}", xml(("cat", BOX), ("dog", BOX), ("Dog", BOX)))

    annotations: Dict[str, Tuple[str, str]] = {
        "bad_file": ("<annotation>\n<object>", ""),
        "no_name": (xml((None, BOX)), ":3"),
        "no_box": (xml(("cat", None)), ":3"),
        "bad_number": (xml(("cat", (1, "nan", 30, 20))), ":3"),
        "unknown_class": (xml(("cat", BOX), ("unicorn", BOX)), ":7"),
        "outside": (xml(("cat", (70, 5, 80, 25))), ":3"),
        "empty": (xml(("cat", (30, 5, 30, 25))), ":3"),
        "inverted": (xml(("cat", (30, 5, 20, 25))), ":3"),
        "clipped": (xml(("cat", (50, 5, 70, 25))), ":3"),
        "same_box": (xml(("cat", BOX), ("cat", BOX)), ":7"),
        "zero_based": (xml(("cat", (0, 5, 30, 25))), ":3"),
    }
    for kind, (text, line) in annotations.items():
        garden.add(kind, text)
        garden.plant(kind, f"Annotations/{kind}.xml{line}")

    for name in ("truncated", "text", "nothing", "copy", "turned"):
        garden.add(name)
    picture = garden.picture("truncated")
    picture.write_bytes(picture.read_bytes()[:-20])
    garden.picture("text").write_text("not a picture\n")
    garden.picture("nothing").write_bytes(b"")
    for name in ("truncated", "text", "nothing"):
        garden.plant("unreadable", f"JPEGImages/{name}.jpg")
    shutil.copy(garden.picture("healthy_0"), garden.picture("copy"))
    garden.plant("same_picture", "JPEGImages/copy.jpg")
    with Image.open(garden.picture("turned")) as image:
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(garden.picture("turned"), exif=exif)
    garden.plant("rotated", "JPEGImages/turned.jpg")

    garden.add("wrong_size", xml(("cat", BOX), size=(80, 60)))
    garden.plant("wrong_size", "JPEGImages/wrong_size.jpg")

    garden.lists["train"].append("healthy_1")
    garden.plant("listed_twice", "healthy_1")
    garden.add("tested", split="val")
    garden.add("leaked", split="val")
    shutil.copy(garden.picture("healthy_2"), garden.picture("leaked"))
    garden.plant("leak", "JPEGImages/leaked.jpg")
    garden.lists["val"].append("healthy_1")
    garden.plant("leak", "JPEGImages/healthy_1.jpg")

    garden.plant("only_case", "Dog and dog")
    garden.plant("not_trained", "newt")
    garden.write_lists()
    return garden


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Garden:
    """The dataset, in an empty working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return planted(tmp_path / "garden")


def recipe_for(root: Path, **settings: Any) -> Recipe:
    recipe = Recipe()
    recipe.data.root = str(root)
    recipe.data.classes = list(CLASSES)
    for name, value in settings.items():
        setattr(recipe.data, name, value)
    return recipe


def contents(folder: Path) -> Dict[str, Tuple[int, int]]:
    """Size and time of every file below a folder."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def screen(open_it: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> Tuple[int, str]:
    """Exit code, and what is shown."""

    def run() -> int:
        open_it()
        return 0

    code = guarded(run)
    text = capsys.readouterr().err
    assert len(text.splitlines()) <= 6
    assert "Traceback" not in text
    return code, text


@pytest.mark.parametrize("task", [Task.check, Task.train])
def test_each_planted_defect_is_named_and_nothing_else(garden: Garden, task: Task) -> None:
    recipe = recipe_for(garden.root)
    recipe.task = task
    report = open_datasets(recipe, refuse=False).report
    assert {(defect.kind, defect.where) for defect in report.defects} == garden.planted
    assert len(report.defects) == len(garden.planted) == 22
    for kind, where in garden.planted:
        assert any(KINDS[kind].text in line and where in line for line in report.lines())


def test_the_planted_dataset_is_refused_with_1_and_nothing_is_written(
    garden: Garden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path)
    code, text = screen(lambda: open_datasets(recipe_for(garden.root)), capsys)
    assert code == 1
    assert text.startswith(
        "error: 1 annotation files that cannot be parsed: Annotations/bad_file.xml"
    )
    assert text.endswith("task=check names all 22 defects; data.skip_bad=true leaves these out\n")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("task", ["check", "train"])
def test_the_script_names_them_and_exits_with_1(
    garden: Garden, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    before = contents(tmp_path)
    words = [f"data.root={garden.root}", f"data.classes=[{','.join(CLASSES)}]", f"task={task}"]
    assert train.main(["recipe=voc_custom", "model.weights=random", "device=cpu", *words]) == 1
    shown = capsys.readouterr()
    if task == "check":
        for _, where in garden.planted:
            assert f"  {where}" in shown.out
        assert shown.err.startswith("error: of 22 defects some stop a training")
    assert len(shown.err.splitlines()) <= 6
    assert contents(tmp_path) == before


def test_on_request_the_rest_of_it_is_used(garden: Garden) -> None:
    datasets = open_datasets(recipe_for(garden.root, skip_bad=True))
    names = datasets.train.annotations.names.tolist()
    assert [line.partition(": ")[0] for line in datasets.bad_images] == [
        "JPEGImages/truncated.jpg", "JPEGImages/text.jpg", "JPEGImages/nothing.jpg",
    ]  # fmt: skip
    assert not {line.partition(": ")[0] for line in datasets.bad_images} & set(names)
    assert "JPEGImages/bad_file.jpg" not in names
    assert any(
        line.startswith("data.skip_bad leaves out: 1 annotation files that cannot be parsed, ")
        and line.endswith(", 3 unreadable images")
        for line in datasets.lines
    )
    assert len(names) == len(set(names)) == 3 + 11 - 1 + 5 - 3 + 1
    for index in range(len(datasets.train)):
        sample = datasets.train[index]
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
        assert bool((sides > 0).all()), sample.name


def test_an_unreadable_picture_without_annotated_size_is_one_defect(tmp_path: Path) -> None:
    garden = Garden(tmp_path / "garden")
    garden.add("a")
    garden.add("b", xml(("cat", BOX), size=(0, 0)))
    garden.add("c", split="val")
    garden.picture("b").write_text("not a picture")
    garden.write_lists()
    report = open_datasets(recipe_for(garden.root, classes=None), refuse=False).report
    assert report.counts() == {"unreadable": 1}


def test_too_many_bad_boxes_stop_and_three_of_them_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garden = Garden(tmp_path / "garden")
    for number in range(6):
        bad = (30, 5, 30, 25) if number else (30, 5, 20, 25)
        garden.add(f"x{number}", xml(*[("cat", BOX)] * 3, ("cat", bad)))
    garden.add("y", split="val")
    garden.write_lists()
    recipe = recipe_for(garden.root, classes=None)
    code, text = screen(lambda: open_datasets(recipe), capsys)
    assert code == 1
    assert "6 of 25 boxes are unusable, more than 1%" in text
    assert "5 boxes of zero width or height" in text
    assert "x1.xml:15" in text
    assert "x3.xml:15" in text
    assert "... 2 more" in text


def test_an_empty_list_and_one_that_names_what_is_not_there(
    garden: Garden, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = garden.root / "ImageSets" / "Main"
    (lists / "val.txt").write_text("\n")
    code, text = screen(lambda: open_datasets(recipe_for(garden.root)), capsys)
    assert code == 2
    assert f"error: {lists / 'val.txt'} names no image: it is empty" in text
    assert "to go on without val: data.val=[]" in text
    (lists / "val.txt").write_text("tested\nghost\n")
    code, text = screen(lambda: open_datasets(recipe_for(garden.root)), capsys)
    assert code == 2
    assert "val.txt names 2 images; 1 are not there" in text
    assert "first: Annotations/ghost.xml" in text


def test_without_lists_lone_files_are_named(tmp_path: Path) -> None:
    garden = Garden(tmp_path / "garden")
    for name in "abcdefghij":
        garden.add(name)
    garden.picture("a").unlink()
    (garden.root / "Annotations" / "b.xml").unlink()
    report = open_datasets(recipe_for(garden.root, classes=None)).report
    assert {(defect.kind, defect.where) for defect in report.defects} == {
        ("missing_image", "Annotations/a.xml"),
        ("unlabelled", "JPEGImages/b.jpg"),
    }


def coco(root: Path, boxes: Sequence[Any], **changes: Any) -> Path:
    """Two splits of two pictures; `boxes` are the first's."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).mkdir()
        entries = []
        for number in (1, 2):
            name = f"{split}_{number}.png"
            Image.new("RGB", (60, 40), (number, len(split), 0)).save(root / split / name)
            entries.append({"id": number, "file_name": name, "width": 60, "height": 40})
        rows = [{"id": 0, "image_id": 2, "category_id": 7, "bbox": [1, 2, 30, 20]}]
        if split == "train":
            rows += [{"id": place, **row} for place, row in enumerate(boxes, start=1)]
            entries += changes.get("images", [])
        content = {
            "images": entries,
            "annotations": rows,
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "newt"}],
        }
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


def row(box: Any, image: int = 1, category: int = 7) -> Dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box}


def test_defects_of_coco_are_named_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = {
        "no_image": row([1, 2, 3, 4], image=5),
        "unknown_class": row([1, 2, 3, 4], category=8),
        "no_box": row([1, 2, 3]),
        "bad_number": row([1, 2, float("nan"), 4]),
        "empty": row([1, 2, 0, 4]),
        "inverted": row([10, 2, -5, 4]),
        "outside": row([70, 2, 5, 4]),
        "clipped": row([50, 2, 20, 4]),
    }
    twice = {"id": 1, "file_name": "train_1.png", "width": 60, "height": 40}
    root = coco(tmp_path / "coco", list(boxes.values()), images=[twice])
    recipe = recipe_for(root, classes=None, format=DataFormat.coco)
    report = open_datasets(recipe, refuse=False).report
    wanted = {
        (kind, f"annotations/train.json annotation {place}")
        for place, kind in enumerate(boxes, start=1)
    }
    wanted |= {("listed_twice", "train/train_1.png"), ("not_trained", "newt")}
    assert {(defect.kind, defect.where) for defect in report.defects} == wanted
    code, text = screen(lambda: open_datasets(recipe), capsys)
    assert code == 1
    assert "1 boxes with a coordinate that is not a number" in text


def test_a_damaged_annotation_file_of_coco_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco(tmp_path / "coco", [])
    recipe = recipe_for(root, classes=None, format=DataFormat.coco)
    open_datasets(recipe)
    path = root / "annotations" / "train.json"
    path.write_text(path.read_text()[:-10])
    code, text = screen(lambda: open_datasets(recipe), capsys)
    assert code == 2
    assert text.startswith(f"error: {path} is not JSON: ")
