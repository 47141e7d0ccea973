"""A recipe's datasets: what is said of them, and what of those that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

import pytest
from PIL import Image

from detectors.commands.screen import guarded
from detectors.commands.train.datasets import Datasets, open_datasets
from detectors.experiment.recipe import DataFormat, Recipe

VOC_SETS = {"train": ["2007_trainval", "2012_trainval"], "val": ["2007_test"]}


def recipe_for(root: object, **settings: Any) -> Recipe:
    recipe = Recipe()
    recipe.data.root = str(root)
    for name, value in settings.items():
        setattr(recipe.data, name, value)
    return recipe


def screen(recipe: Recipe, capsys: pytest.CaptureFixture[str], **how: bool) -> Tuple[int, str]:
    """Exit code, and what is shown: never more than six lines."""

    def run() -> int:
        open_datasets(recipe, **how)
        return 0

    code = guarded(run)
    text = capsys.readouterr().err
    assert len(text.splitlines()) <= 6
    assert "…" not in text.splitlines()[-1:]
    return code, text


def write_tree(tree: Path, sets: Mapping[str, Sequence[str]], objects: Sequence[str]) -> None:
    """A VOC tree: each picture has a box of each of `objects`; a trailing ! is difficult."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    for name, members in sets.items():
        (tree / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(members))
        for member in members:
            things = "".join(
                f"<object><name>{thing.rstrip('!')}</name>"
                f"<difficult>{int(thing.endswith('!'))}</difficult><bndbox><xmin>2</xmin>"
                "<ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>"
                for thing in objects
            )
            (tree / "Annotations" / f"{member}.xml").write_text(
                "<annotation><size><width>60</width><height>40</height></size>"
                f"{things}</annotation>"
            )
            shade = sum(member.encode()) % 256
            Image.new("RGB", (60, 40), (shade, 0, 0)).save(tree / "JPEGImages" / f"{member}.png")


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    write_tree(
        tmp_path / "VOC2007", {"trainval": ["000001", "000002"], "test": ["000003"]}, ["cat"]
    )
    write_tree(tmp_path / "VOC2012", {"trainval": ["2008_000001"]}, ["cat", "dog!"])
    return tmp_path


def test_the_years_are_counted_apart_and_difficult_boxes_besides(devkit: Path) -> None:
    datasets = open_datasets(recipe_for(devkit, **VOC_SETS))
    assert datasets.lines == (
        "train 3 images (2 + 1), 3 boxes without 1 difficult; val 1 images, 1 boxes",
        "2 classes: cat 3, dog 1",
    )
    assert datasets.class_names == ("cat", "dog")
    assert datasets.category_ids == (1, 2)
    assert datasets.val is not None
    assert len(datasets.train[2].boxes) == 2


def test_difficult_boxes_are_used_as_the_recipe_says(devkit: Path) -> None:
    datasets = open_datasets(recipe_for(devkit, difficult="leave_out", **VOC_SETS))
    assert len(datasets.train[2].boxes) == 1
    assert len(datasets.train.annotations.boxes) == 4  # evaluation knows them


def test_a_missing_dataset_shows_layout_archives_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = screen(recipe_for(tmp_path / "no", **VOC_SETS), capsys)
    assert code == 2
    for part in (
        f"error: no VOC2007 at {tmp_path}/no/VOC2007 or {tmp_path}/no/VOCdevkit/VOC2007",
        "VOC2007/ImageSets/Main/trainval.txt",
        f"get it (2.9 GB): python -m data.download voc0712 {tmp_path}/no",
        "VOCtest_06-Nov-2007.tar 451 MB md5 b6e924de…",
        "data.root=DIR",
    ):
        assert part in text
    code, text = screen(recipe_for(tmp_path / "no", format=DataFormat.coco), capsys)
    assert code == 2
    assert "instances_train.json" in text
    assert f"python -m data.download coco2017 {tmp_path}/no" in text
    assert "data.root=DIR" in text
    code, text = screen(recipe_for(tmp_path / "no"), capsys)
    assert code == 2
    assert f"no dataset at {tmp_path}/no: no such folder" in text
    assert "data.root=DIR" in text
    assert not (tmp_path / "no").exists()


def test_a_missing_year_says_how_to_go_on_without_it(
    devkit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (devkit / "VOC2012").rename(devkit / "elsewhere")
    code, text = screen(recipe_for(devkit, **VOC_SETS), capsys)
    assert code == 2
    assert f"error: no VOC2012 at {devkit}/VOC2012" in text
    assert f"python -m data.download voc0712 {devkit}" in text
    assert text.endswith("to go on without 2012_trainval: data.train=[2007_trainval]\n")


def test_a_test_set_without_annotations_says_how_many_are_missing(
    devkit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (devkit / "VOC2007/Annotations/000003.xml").unlink()
    code, text = screen(recipe_for(devkit, **VOC_SETS), capsys)
    assert code == 2
    assert "VOC2007/ImageSets/Main/test.txt names 1 images; 1 are not there or have no" in text
    assert "first: VOC2007/Annotations/000003.xml" in text
    assert text.endswith("to go on without 2007_test: data.val=[]\n")


def test_without_sets_to_evaluate_on_there_is_no_val(devkit: Path) -> None:
    wanted = {**VOC_SETS, "val": []}
    assert open_datasets(recipe_for(devkit, **wanted)).val is None


def test_evaluation_needs_no_training_set(devkit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (devkit / "VOC2012").rename(devkit / "elsewhere")
    datasets = open_datasets(recipe_for(devkit, classes=["dog", "cat"], **VOC_SETS), train=False)
    assert len(datasets.train) == 0
    assert datasets.val is not None
    assert datasets.val.annotations.labels.tolist() == [1]
    code, text = screen(recipe_for(devkit, **{**VOC_SETS, "val": []}), capsys, train=False)
    assert code == 2
    assert "data.val is []" in text


def test_classes_that_the_recipe_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"train": ["a", "b"], "val": ["c"]}, ["Cat", "dog", "cow"])
    code, text = screen(recipe_for(tmp_path, classes=["cat", "dog"]), capsys)
    assert code == 2
    for part in (
        "error: 6 objects of a class that is not in the list: Annotations/a.xml:1 (Cat)",
        "data.classes has cat, dog; the data has Cat 3, cow 3 besides",
        "to take them in: data.classes=[dog,Cat,cow]",
        "to rename: data.classes_alias={Cat: cat}",
        "to leave them out: data.skip_bad=true",
    ):
        assert part in text
    renamed = recipe_for(
        tmp_path, classes=["cat", "dog"], classes_alias={"Cat": "cat", "cow": "dog"}
    )
    datasets = open_datasets(renamed)
    assert datasets.train.annotations.counts() == {"cat": 2, "dog": 4}
    assert datasets.report.counts() == {"same_box": 3}  # what were dog and cow
    assert open_datasets(recipe_for(tmp_path, classes=["dog"], skip_bad=True)).lines[1] == (
        "1 class: dog 2"
    )


def test_names_that_differ_in_case_are_two_classes_and_a_hint(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train": ["a"], "val": ["b"]}, ["Cat", "cat"])
    datasets = open_datasets(recipe_for(tmp_path))
    assert datasets.class_names == ("Cat", "cat")
    assert datasets.report.lines() == [
        "1 class names that differ only in case: Cat and cat (data.classes_alias={Cat: cat})"
    ]
    assert datasets.lines[-1] == f"warning: {datasets.report.lines()[0]}"


def test_two_kinds_of_warnings_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train": ["a", "b", "b"], "val": ["b", "c"]}, ["cat", "cat"])
    datasets = open_datasets(recipe_for(tmp_path, classes=["cat", "newt"]))
    assert datasets.lines[2:] == (
        "warning: 1 images that are in two splits: JPEGImages/b.png (train and val)",
        "warning: 1 classes without a box in the training split: newt (split train)",
        "2 more kinds of defects: task=check names them",
    )


@pytest.mark.parametrize("classes", [None, ["cow"]])
def test_nothing_to_find_is_refused_even_when_bad_data_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: Any
) -> None:
    write_tree(tmp_path, {"train": ["a"], "val": ["b"]}, ["cat"] if classes else [])
    code, text = screen(recipe_for(tmp_path, classes=classes, skip_bad=True), capsys)
    assert code == 2
    assert ("no box of cow in the 1 images" if classes else "there is no class") in text


def test_boxes_that_the_graph_has_no_room_for_are_counted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train": ["a"], "val": ["b"]}, ["cat", "dog", "cow"])
    assert open_datasets(recipe_for(tmp_path, max_boxes=1)).lines[2] == (
        "1 images have more than 1 boxes: the 2 smallest are left out of training;"
        " data.max_boxes=3 takes all"
    )


def test_pictures_without_a_box_are_kept_and_a_drawn_split_is_told(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train": [f"x{number}" for number in range(10)]}, ["cat"])
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    for number in (0, 3):
        (tmp_path / f"Annotations/x{number}.xml").write_text("<annotation></annotation>")
    datasets = open_datasets(recipe_for(tmp_path))
    assert len(datasets.train) == 8
    assert any(line.endswith("images of train have no box and are kept") for line in datasets.lines)
    assert "no ImageSets: split 80% train, 20% val by seed 0" in datasets.lines


def changed(datasets: Datasets, root: Path, old: str, new: str) -> str:
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace(old, new))
    return open_datasets(recipe_for(root)).fingerprint


def test_the_fingerprint_is_of_the_content_not_the_place(tmp_path: Path) -> None:
    sets = {"train": ["a", "b"], "val": ["c"]}
    for place in ("one", "two"):
        write_tree(tmp_path / place, sets, ["cat", "dog"])
    one, two = (open_datasets(recipe_for(tmp_path / place)) for place in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert len(one.fingerprint) == 64
    seen = {two.fingerprint}
    for old, new in (("<xmin>2<", "<xmin>3<"), ("cat", "cow"), ("<width>60<", "<width>61<")):
        seen.add(changed(two, tmp_path / "two", old, new))
    assert len(seen) == 4


def test_generated_pictures_are_the_same_whatever_the_recipes_seed() -> None:
    recipe = recipe_for("", format=DataFormat.generated, count=[6, 3])
    recipe.image.size = [64, 96]
    one = open_datasets(recipe)
    recipe.seed = 9
    assert open_datasets(recipe).fingerprint == one.fingerprint
    assert one.val is not None
    assert (len(one.train), len(one.val)) == (6, 3)
    assert one.train[0].image.shape == (3, 64, 96)
    assert one.class_names == ("circle", "square", "triangle")
    assert one.lines[0].startswith("train 6 images, ")
    assert one.train[0].boxes.tolist() != one.val[0].boxes.tolist()
    alone = open_datasets(recipe, train=False)
    assert alone.val is not None
    assert (len(alone.train), len(alone.val)) == (0, 3)
    recipe.data.classes = ["cat"]
    with pytest.raises(ValueError, match=r"data.classes \['cat'\] are not what data.format=gen"):
        open_datasets(recipe)


def test_bccd_is_opened_as_it_is(shared_data: Path) -> None:
    datasets = open_datasets(recipe_for(shared_data / "bccd"))
    assert datasets.lines == (
        "train 205 images, 2 804 boxes; val 87 images, 1 137 boxes",
        "3 classes: Platelets 209, RBC 2 381, WBC 214",
        f"warning: {datasets.report.lines()[0]}",
    )
    assert datasets.report.counts() == {"empty": 2}
    assert datasets.bad_images == ()


def test_coco_keeps_its_category_ids(shared_data: Path) -> None:
    settings: List[Any] = [DataFormat.coco, ["train2017"], ["val2017"]]
    recipe = recipe_for(shared_data / "coco", **dict(zip(("format", "train", "val"), settings)))
    datasets = open_datasets(recipe)
    assert (datasets.category_ids[0], datasets.category_ids[-1]) == (1, 90)
    assert len(datasets.category_ids) == len(datasets.class_names) == 80
    recipe.data.classes = ["dog", "person"]
    assert open_datasets(recipe).category_ids == (18, 1)
    recipe.data.classes, recipe.data.classes_alias = ["cat", "person"], {"dog": "cat"}
    datasets = open_datasets(recipe)
    assert datasets.category_ids == (17, 1)
    assert datasets.train.annotations.counts()["cat"] == 4 + 3  # cats and dogs


def test_a_limit_takes_the_first_pictures_of_each_split(devkit: Path) -> None:
    datasets = open_datasets(recipe_for(devkit, limit=2, **VOC_SETS))
    assert datasets.val is not None
    assert (len(datasets.train), len(datasets.val)) == (2, 1)
    names = [str(name)[-10:] for name in datasets.train.annotations.names]
    assert names == ["000001.png", "000002.png"]
    made = Recipe()
    made.data.format, made.data.limit, made.image.size = DataFormat.generated, 3, 64
    assert len(open_datasets(made).train) == 3
