"""What is written is read back, and is what other programs read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Dict, List

import pytest

from data.formats import FORMATS, Classes, ImageDetections
from data.formats import coco as coco_format
from data.formats.detections import Box
from data.formats.image_index import file_name_of

Detections = List[ImageDetections]

TOLERANCE: Dict[str, float] = {"json": 5e-4, "coco": 1e-3, "csv": 5e-4, "voc": 5e-4, "yolo": 1e-3}
"""Pixels that rounding may move a corner; x + w adds two roundings in COCO, YOLO has shares of 12
000 pixels.
"""


def write(folder: Path, name: str, classes: Classes, images: Detections) -> None:
    writer = FORMATS[name].open(folder, classes, {"model": "m"})
    for image in images:
        writer.write(image)
    writer.close()


def one(box: Box, **changes: int) -> ImageDetections:
    size = {"width": 100, "height": 50, "image_id": 1, **changes}
    return ImageDetections(
        "a.jpg", size["image_id"], size["width"], size["height"], (0,), (0.1 + 0.2,), (box,)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(
    name: str, tmp_path: Path, classes: Classes, detections: Detections
) -> None:
    write(tmp_path, name, classes, detections)
    back = FORMATS[name].read(tmp_path, classes)
    assert [image.file for image in back] == [image.file for image in detections]
    for image, original in zip(back, detections):
        assert image.labels == original.labels
        assert image.scores == original.scores  # to the last bit
        for box, expected in zip(image.boxes, original.boxes):
            assert box == pytest.approx(expected, abs=TOLERANCE[name])
        if name != "csv":
            assert (image.width, image.height) == (original.width, original.height)
            assert image.image_id == original.image_id


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_without_images_is_written_and_read_back(
    name: str, tmp_path: Path, classes: Classes
) -> None:
    write(tmp_path, name, classes, [])
    assert FORMATS[name].read(tmp_path, classes) == []


@pytest.mark.parametrize("name", FORMATS)
def test_files_take_their_names_only_when_they_are_done(
    name: str, tmp_path: Path, classes: Classes, detections: Detections
) -> None:
    writer = FORMATS[name].open(tmp_path, classes, {})
    writer.write(detections[0])
    path = tmp_path / FORMATS[name].path
    assert not path.exists()
    writer.close()
    assert path.exists()
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("name", FORMATS)
def test_writing_again_replaces_what_was_there(
    name: str, tmp_path: Path, classes: Classes, detections: Detections
) -> None:
    write(tmp_path, name, classes, detections)
    write(tmp_path, name, classes, detections[:1])
    assert len(FORMATS[name].read(tmp_path, classes)) == 1


@pytest.mark.parametrize("name", ["json", "coco"])
def test_json_parses_after_every_image(
    name: str, tmp_path: Path, classes: Classes, detections: Detections
) -> None:
    part = tmp_path / (FORMATS[name].path + ".part")
    writer = FORMATS[name].open(tmp_path, classes, {"model": "m"})
    json.loads(part.read_text(encoding="utf-8"))
    for image in detections:
        writer.write(image)
        json.loads(part.read_text(encoding="utf-8"))
    writer.close()


def test_plain_json_says_what_was_not_done(tmp_path: Path, classes: Classes) -> None:
    writer = FORMATS["json"].open(tmp_path, classes, {"model": "m", "size": [1, 2]})
    writer.close([("b.jpg", "truncated")], complete=False)
    content = json.loads((tmp_path / "detections.json").read_text(encoding="utf-8"))
    assert content["model"] == "m"
    assert content["size"] == [1, 2]
    assert content["images"] == []
    assert content["unreadable"] == [{"file": "b.jpg", "reason": "truncated"}]
    assert content["complete"] is False


def test_a_file_name_that_is_not_utf8_survives(tmp_path: Path, classes: Classes) -> None:
    image = ImageDetections("bad\udcff.jpg", 1, 10, 10)  # as Python decodes the byte 0xff
    for name in FORMATS:
        write(tmp_path, name, classes, [image])
        assert FORMATS[name].read(tmp_path, classes)[0].file == image.file


def test_coco_has_ids_from_one_and_boxes_with_width_and_height(tmp_path: Path) -> None:
    write(tmp_path, "coco", Classes(["a", "b"]), [one((10.0, 20.0, 30.0, 50.0), image_id=139)])
    assert json.loads((tmp_path / "coco.json").read_text()) == [
        {"image_id": 139, "category_id": 1, "bbox": [10.0, 20.0, 20.0, 30.0], "score": 0.1 + 0.2}
    ]


def test_coco_has_the_ids_of_the_data_where_they_are_known(tmp_path: Path) -> None:
    # Labels 0 and 2 are classes, 1 and 3 are slots without one. Label + 1 is 2 for the first slot,
    # which dog has: it comes 2 after the largest id; 4 is free.
    classes = Classes(["dog", None, "cat", None], [2, None, 7, None])
    assert classes.ids == (2, 9, 7, 4)
    box: Box = (10.0, 20.0, 30.0, 50.0)
    images = [ImageDetections("a.jpg", 1, 100, 50, (2, 0, 1), (0.9, 0.8, 0.7), (box,) * 3)]
    write(tmp_path, "coco", classes, images)
    results = json.loads((tmp_path / "coco.json").read_text())
    assert [one["category_id"] for one in results] == [7, 2, 9]
    about = json.loads((tmp_path / "coco_images.json").read_text())
    assert about["info"] == {"category_ids": "of the data"}
    assert {one["id"]: one["name"] for one in about["categories"]} == {
        2: "dog",
        9: "unused 2",
        7: "cat",
        4: "unused 4",
    }
    assert FORMATS["coco"].read(tmp_path, classes) == images


def test_coco_says_that_ids_are_counted_where_nothing_tells_them(tmp_path: Path) -> None:
    write(tmp_path, "coco", Classes(["dog", None]), [])
    about = json.loads((tmp_path / "coco_images.json").read_text())
    assert about["info"] == {"category_ids": "label + 1"}
    assert [one["id"] for one in about["categories"]] == [1, 2]


def test_plain_json_has_the_ids_beside_the_names(tmp_path: Path) -> None:
    write(tmp_path, "json", Classes(["dog", "cat"], [18, 17]), [])
    content = json.loads((tmp_path / "detections.json").read_text(encoding="utf-8"))
    assert (content["classes"], content["category_ids"]) == (["dog", "cat"], [18, 17])


def test_coco_loads_in_pycocotools(
    tmp_path: Path, classes: Classes, detections: Detections, capsys: pytest.CaptureFixture[str]
) -> None:
    pycocotools = pytest.importorskip("pycocotools.coco")
    write(tmp_path, "coco", classes, detections)
    truth = pycocotools.COCO(str(tmp_path / coco_format.IMAGES_FILE))
    results = truth.loadRes(str(tmp_path / coco_format.FILE))
    assert sorted(truth.getImgIds()) == [7, 8, 12]
    assert len(results.getAnnIds(imgIds=[7])) == 3
    assert results.getAnnIds(imgIds=[8]) == []
    capsys.readouterr()  # pycocotools prints


def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path: Path) -> None:
    # Pixel columns 0..9 and rows 0..4: continuous 0..10 and 0..5, VOC's 1..10 and 1..5.
    write(tmp_path, "voc", Classes(["dog"]), [one((0.0, 0.0, 10.0, 5.0))])
    text = (tmp_path / "voc" / "comp4_det_test_dog.txt").read_text()
    assert text == "a 0.30000000000000004 1.000 1.000 10.000 5.000\n"


def test_voc_has_a_file_for_every_class(tmp_path: Path, classes: Classes) -> None:
    write(tmp_path, "voc", classes, [])
    files = sorted(path.name for path in (tmp_path / "voc").glob("comp4_det_test_*.txt"))
    assert len(files) == len(classes)
    assert "comp4_det_test_dining table.txt" in files
    assert "comp4_det_test_a%2Fb, %22c%22.txt" in files


def test_class_file_names_differ_where_classes_do() -> None:
    assert file_name_of("a/b") != file_name_of("a%2Fb")


def test_yolo_has_centres_and_sizes_as_shares(tmp_path: Path) -> None:
    write(tmp_path, "yolo", Classes(["dog"]), [one((10.0, 10.0, 30.0, 20.0))])  # of 100 x 50
    text = (tmp_path / "yolo" / "labels" / "a.txt").read_text()
    values = "0 0.20000000 0.30000000 0.20000000 0.20000000 0.30000000000000004\n"
    assert text == values
    assert (tmp_path / "yolo" / "classes.txt").read_text() == "dog\n"


def test_yolo_keeps_images_apart_that_differ_by_extension_only(tmp_path: Path) -> None:
    images = [ImageDetections("x.jpg", 1, 9, 9), ImageDetections("x.png", 2, 9, 9)]
    write(tmp_path, "yolo", Classes(["dog"]), images)
    files = sorted(path.name for path in (tmp_path / "yolo" / "labels").iterdir())
    assert files == ["x.png.txt", "x.txt"]


def test_csv_has_its_header_and_a_row_for_an_image_without_detections(tmp_path: Path) -> None:
    write(tmp_path, "csv", Classes(["dog"]), [ImageDetections('a,"b".jpg', 1, 9, 9)])
    with (tmp_path / "detections.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "label", "score", "xmin", "ymin", "xmax", "ymax"]
    assert rows[1] == ['a,"b".jpg', "", "", "", "", "", ""]


def test_unused_slots_get_names_by_their_id() -> None:
    assert Classes(["dog", None]).names == ("dog", "unused 2")


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'dog'"):
        Classes(["dog", "cat", "dog"])


def test_ids_that_do_not_tell_classes_apart_are_refused() -> None:
    with pytest.raises(ValueError, match=r"class ids must differ, but \[3\]"):
        Classes(["dog", "cat"], [3, 3])
    with pytest.raises(ValueError, match="2 class names, but 1 ids"):
        Classes(["dog", "cat"], [3])


def test_an_unknown_class_in_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "csv", Classes(["dog"]), [one((0.0, 0.0, 1.0, 1.0))])
    with pytest.raises(ValueError, match="no class 'dog'"):
        FORMATS["csv"].read(tmp_path, Classes(["cat"]))
