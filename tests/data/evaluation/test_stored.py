"""Stored detections find their pictures and classes, or are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from data.annotations import Annotations, BoxList, pack
from data.evaluation.stored import class_labels, read_detections
from data.formats import FORMATS, Classes, ImageDetections

MakeTruth = Callable[..., Annotations]
BOX = (10.0, 20.0, 50.0, 80.0)
RESULT: Dict[str, Any] = {
    "image_id": 2008000008,
    "category_id": 18,
    "bbox": [10, 20, 40, 60],
    "score": 0.5,
}


@pytest.fixture
def truth() -> Annotations:
    """Two pictures; cats are category 17, dogs 18."""
    names = {2007000027: "VOC/JPEGImages/2007_000027.jpg", 2008000008: "VOC/JPEGImages/8.jpg"}
    lists = [
        BoxList(name, number, (100, 100), [BOX], [0], [False], [False], [])
        for number, name in names.items()
    ]
    return pack(lists, ["cat", "dog"])


def write(folder: Path, content: Any, name: str = "detections.json") -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


def plain(file: str, *labels: str) -> Dict[str, Any]:
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), BOX))
    detections = [{"label": label, "score": 0.5, "box": box} for label in labels]
    return {"file": file, "width": 100, "height": 100, "image_id": 1, "detections": detections}


def test_coco_results_go_by_the_datasets_ids(truth: Annotations, tmp_path: Path) -> None:
    stored = read_detections(write(tmp_path, [RESULT]), truth, [17, 18])
    assert (stored.found.images.tolist(), stored.found.labels.tolist()) == ([1], [1])
    assert stored.found.boxes.tolist() == [list(BOX)]
    assert len(stored.annotations) == 2  # the other was looked at as far as anybody knows


def test_an_image_id_may_be_a_name(truth: Annotations, tmp_path: Path) -> None:
    stored = read_detections(
        write(tmp_path, [{**RESULT, "image_id": "2007_000027"}]), truth, [17, 18]
    )
    assert stored.found.images.tolist() == [0]


def test_with_a_list_of_images_only_those_are_judged(truth: Annotations, tmp_path: Path) -> None:
    # Another's numbers: 1 is the second picture, category 1 is dog.
    write(tmp_path, [{**RESULT, "image_id": 1, "category_id": 1}], "coco.json")
    listed = {
        "images": [{"id": 1, "file_name": "8.jpg"}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    write(tmp_path, listed, "coco_images.json")
    stored = read_detections(tmp_path / "coco.json", truth, [17, 18])
    assert stored.annotations.names.tolist() == ["VOC/JPEGImages/8.jpg"]
    assert (stored.found.images.tolist(), stored.found.labels.tolist()) == ([0], [1])


def test_what_infer_writes_is_read(truth: Annotations, tmp_path: Path) -> None:
    images = [plain("2007_000027.jpg", "dog", "horse"), plain("8.jpg")]
    write(tmp_path, {"classes": ["horse", "dog", "cat"], "images": images})
    stored = read_detections(tmp_path, truth, [17, 18])
    assert (stored.found.images.tolist(), stored.found.labels.tolist()) == ([0], [1])
    assert stored.found.boxes.tolist() == [list(BOX)]
    assert stored.left_out == {"horse": 1}


REFUSED: List[Any] = [
    ([{**RESULT, "image_id": 3}], "image_id 3 (result 0), which is not among the 2 images"),
    ([{**RESULT, "image_id": "x"}], "'x', which is not among the 2 images of the dataset: are"),
    ([{**RESULT, "category_id": 1}], "category_id 1, which the data does not have: 17 cat, 18 dog"),
    ([{"image_id": 2008000008}], "result 0 has no category_id, bbox, score"),
    ([{**RESULT, "bbox": [1, 2, 3]}], "has bbox [1, 2, 3] and score 0.5; they must be four"),
    ([{**RESULT, "score": None}], "result 0 has bbox [10, 20, 40, 60] and score None"),
    ([{**RESULT, "score": float("nan")}], "scores that are not finite"),
    ([3], "is not as it should be"),
    ({"scores": 1}, "neither COCO results nor what infer.py writes"),
    ({"classes": ["cat"], "images": []}, "cat); data: 2 classes (cat, dog); dog can never be"),
    ({"classes": ["cat", "dog"], "images": [plain("other.jpg")]}, "another split?"),
    ({"classes": ["cat", "dog"], "images": [plain("8.jpg", "cow")]}, "KeyError 'cow'"),
]


@pytest.mark.parametrize("ids", [(18, 17, None), (1, 2, None)])
def test_both_of_infers_jsons_are_the_same_detections(
    truth: Annotations, tmp_path: Path, ids: Tuple[Optional[int], ...]
) -> None:
    # The detector's dogs come first, and it has an output that no class has. Its results name their
    # pictures and categories, so that whatever ids they have are understood.
    classes = Classes(["dog", "cat", None], ids)
    images = [
        ImageDetections("2007_000027.jpg", 5, 100, 100, (0, 2), (0.9, 0.8), (BOX, BOX)),
        ImageDetections("8.jpg", 8, 100, 100, (1,), (0.7,), (BOX,)),
    ]
    for name in ("json", "coco"):
        writer = FORMATS[name].open(tmp_path, classes, {})
        for image in images:
            writer.write(image)
        writer.close()
    for name in ("detections.json", "coco.json"):
        stored = read_detections(tmp_path / name, truth, [17, 18])
        assert stored.found.images.tolist() == [0, 1]
        assert stored.found.labels.tolist() == [1, 0]
        assert stored.found.scores.tolist() == [0.9, 0.7]
        assert stored.left_out == {"unused 3": 1}


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_of_another_dataset_is_refused(
    truth: Annotations, tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_detections(write(tmp_path, content), truth, [17, 18])


def test_files_that_are_none_are_refused(truth: Annotations, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no detections at .*detections\.json"):
        read_detections(tmp_path, truth, [17, 18])
    (tmp_path / "detections.json").write_text("[")
    with pytest.raises(ValueError, match="is not JSON"):
        read_detections(tmp_path, truth, [17, 18])


def test_two_pictures_of_one_name_need_their_folders(tmp_path: Path) -> None:
    lists = [
        BoxList(f"{folder}/1.jpg", number, (9, 9), [], [], [], [], [])
        for number, folder in enumerate("ab")
    ]
    truth = pack(lists, ["cat"])
    write(tmp_path, {"classes": ["cat"], "images": [plain("b/1.jpg", "cat")]})
    assert read_detections(tmp_path, truth, [1]).annotations.names.tolist() == ["b/1.jpg"]
    write(tmp_path, {"classes": ["cat"], "images": [plain("1.jpg", "cat")]})
    with pytest.raises(ValueError, match=r"'1\.jpg', which is not among"):
        read_detections(tmp_path, truth, [1])


def test_labels_of_a_detector_with_more_classes() -> None:
    assert class_labels(["dog", None, "cat"], ["cat", "dog"], "x") == [1, None, 0]
    with pytest.raises(ValueError, match=r"x: 2 classes \(a, b\); data: 1 class \(c\); c can"):
        class_labels(["a", "b"], ["c"], "x")
