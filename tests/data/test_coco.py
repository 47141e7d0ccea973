"""COCO's json: ids with holes, crowds, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from PIL import Image

from data.annotations import AnnotatedImages
from data.coco import read_coco


def content(boxes: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 40, "width": 60},
            {"id": 4, "file_name": "a.jpg", "height": 40, "width": 60},
        ],
        "annotations": [{"id": number, "iscrowd": 0, **box} for number, box in enumerate(boxes)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    }


def write(root: Path, boxes: List[Dict[str, Any]], name: str = "train2017") -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    (root / name).mkdir()
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content(boxes)))
    for file in ("a.jpg", "b.jpg"):
        Image.new("RGB", (60, 40)).save(root / name / file)
    return root


DOG = {"image_id": 9, "category_id": 18, "bbox": [10, 5, 20, 15], "area": 123.5}
CROWD = {"image_id": 9, "category_id": 1, "bbox": [0, 0, 50, 30], "iscrowd": 1, "area": 7}


def test_ids_are_mapped_and_crowds_are_regions_to_ignore(tmp_path: Path) -> None:
    splits, report, ids = read_coco(write(tmp_path, [DOG, CROWD]), {"train": ["train2017"]})
    table = splits["train"]
    assert table.class_names == ("person", "dog")
    assert ids == (1, 18)
    assert table.image_ids.tolist() == [4, 9]
    assert table.labels.tolist() == [1, 0]
    assert table.boxes.tolist() == [[10, 5, 30, 20], [0, 0, 50, 30]]
    assert table.areas.tolist() == [123.5, 7]
    assert table.counts() == {"person": 0, "dog": 1}
    empty, sample = (AnnotatedImages(tmp_path, table)[index] for index in range(2))
    assert sample.labels.tolist() == [1, -1]
    assert sample.boxes.tolist() == [[10, 5, 30, 20], [0, 0, 50, 30]]
    assert len(empty.boxes) == 0
    assert report.counts() == {}


def test_some_classes_in_an_order_of_ones_own(tmp_path: Path) -> None:
    root = write(tmp_path, [DOG, CROWD])
    splits, _, ids = read_coco(root, {"train": ["train2017"]}, classes=["dog"])
    assert splits["train"].class_names == ("dog",)
    assert splits["train"].labels.tolist() == [0]
    assert ids == (18,)
    with pytest.raises(ValueError, match=r"\['cat'\] are not among the 2 categories"):
        read_coco(root, {"train": ["train2017"]}, classes=["cat"])


DEFECTS: Dict[str, Dict[str, Any]] = {
    "no_image": {**DOG, "image_id": 5},
    "unknown_class": {**DOG, "category_id": 2},
    "no_box": {"image_id": 9, "category_id": 1},
    "bad_number": {**DOG, "bbox": [1, "x", 3, 4]},
    "clipped": {**DOG, "bbox": [50, 5, 20, 15]},
    "empty": {**DOG, "bbox": [10, 5, 0, 15]},
    "inverted": {**DOG, "bbox": [10, 5, -4, 15]},
    "outside": {**DOG, "bbox": [60, 5, 4, 15]},
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_bad_annotation_is_named_by_its_id(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path, [DOG, CROWD, {**DOG, "category_id": 1}, DEFECTS[kind]])
    (defect,) = read_coco(root, {"train": ["train2017"]}).report.defects
    assert defect.kind == kind
    assert defect.where == "annotations/instances_train2017.json annotation 3"


def test_a_set_with_missing_pictures_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, [DOG])
    (root / "train2017" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"names 2 images; 1 are not there, .*a.jpg"):
        read_coco(root, {"train": ["train2017"]})


def test_a_missing_dataset_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        read_coco(tmp_path, {"train": ["train2017"]})
    assert f"{tmp_path}/annotations/instances_train2017.json" in str(error.value)
    assert f"python -m data.download coco2017 {tmp_path}" in str(error.value)


def test_what_is_no_annotation_file_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, [])
    path = root / "annotations" / "instances_train2017.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="it needs images, annotations, categories"):
        read_coco(root, {"train": ["train2017"]})
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_coco(root, {"train": ["train2017"]})


def test_sets_with_other_categories_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, [DOG])
    write(root, [], "val2017")
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("dog", "cat"))
    with pytest.raises(ValueError, match="different categories"):
        read_coco(root, {"train": ["train2017"], "val": ["val2017"]})


def test_the_mini_set_has_its_counts(shared_data: Path) -> None:
    splits, report, ids = read_coco(
        shared_data / "coco", {"train": ["train2017"], "val": ["val2017"]}
    )
    train, val = splits["train"], splits["val"]
    assert [(len(t), len(t.boxes), int(t.crowd.sum())) for t in (train, val)] == [
        (38, 438, 4),
        (24, 277, 4),
    ]
    assert (len(ids), ids[0], ids[-1]) == (80, 1, 90)
    assert set(report.counts()) == {"not_trained"}
    assert sum(1 for number in val.counts().values() if number) <= 58


def everything(root: Path, path: str, **changes: Any) -> Path:
    """One file for ten pictures in `images`."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    names = [f"x{number}.jpg" for number in range(10)]
    for name in names:
        Image.new("RGB", (60, 40)).save(root / "images" / name)
    images = [
        {"id": number, "file_name": name, "height": 40, "width": 60}
        for number, name in enumerate(names)
    ]
    rows = [{**DOG, "id": number, "image_id": number} for number in range(10)]
    file = {**content([]), "images": images, "annotations": rows, **changes}
    (root / path).write_text(json.dumps(file))
    return root


@pytest.mark.parametrize(
    "path", ["annotations/instances_default.json", "annotations.json", "images/mine.json"]
)
def test_one_file_for_all_is_split_by_the_seed(tmp_path: Path, path: str) -> None:
    root = everything(tmp_path, path)
    wanted = {"train": ["train"], "val": ["val"]}
    if path.startswith("images"):
        with pytest.raises(FileNotFoundError, match="no annotations at"):
            read_coco(root, wanted)
        return
    splits, report, _ = read_coco(root, wanted, seed=3, validation=0.3)
    train, val = (splits[split].image_ids.tolist() for split in wanted)
    assert (len(train), len(val)) == (7, 3)
    assert sorted(train + val) == list(range(10))
    assert len(splits["train"].boxes) == 7
    assert report.notes == [f"one file, {path}: split 70% train, 30% val by seed 3"]
    assert set(report.counts()) == {"not_trained"}
    assert len(read_coco(root, {"t": ["all"]}).splits["t"]) == 10
    again = read_coco(root, {"val": ["val"]}, seed=3, validation=0.3).splits["val"]
    assert again.image_ids.tolist() == val
    other = read_coco(root, {"val": ["val"]}, seed=4, validation=0.3).splits["val"]
    assert other.image_ids.tolist() != val


def test_a_box_of_no_picture_is_named_once_when_a_file_is_split(tmp_path: Path) -> None:
    rows = [{**DOG, "id": 7, "image_id": 99}]
    root = everything(tmp_path, "annotations.json", annotations=rows)
    report = read_coco(root, {"train": ["train"], "val": ["val"]}).report
    assert [str(defect) for defect in report.of_kind("no_image")] == [
        "annotations.json annotation 7 (image_id 99)"
    ]


def test_the_file_of_a_split_is_not_split_again(tmp_path: Path) -> None:
    root = everything(tmp_path, "annotations/instances_train.json")
    assert len(read_coco(root, {"train": ["train"]}).splits["train"]) == 10
    with pytest.raises(FileNotFoundError, match=r"instances_val.json .*; there is train; expected"):
        read_coco(root, {"val": ["val"]})


def test_val_may_be_called_valid(tmp_path: Path) -> None:
    root = write(tmp_path, [DOG], "valid")
    assert len(read_coco(root, {"val": ["val"]}).splits["val"]) == 2


def test_categories_that_differ_in_case_can_be_made_one(tmp_path: Path) -> None:
    root = write(tmp_path, [DOG, CROWD])
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace("person", "Dog"))
    splits, report, ids = read_coco(root, {"t": ["train2017"]})
    assert "1 class names that differ only in case: Dog and dog" in report.lines()[0]
    splits, report, ids = read_coco(root, {"t": ["train2017"]}, aliases={"Dog": "dog"})
    assert (splits["t"].class_names, ids) == (("dog",), (1,))
    assert splits["t"].labels.tolist() == [0, 0]
    assert report.counts() == {}
