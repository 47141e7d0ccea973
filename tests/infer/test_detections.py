"""What `infer.py` promises of detections: their files, their frame, the settings of both."""

from __future__ import annotations

import io
import itertools
import re
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch

from data.formats import FORMATS, ImageDetections
from detectors.commands.infer.runner import Runner
from tests.infer.small_runs import ALL, CLASSES, Infer, files_in, images_of, plain


def test_a_folder_becomes_a_numbered_run_with_json_and_drawings(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    result = run(checkpoint, photos, "--score", ".5")
    assert result.code == 0
    assert result.last == "runs/infer/efficientdet-d0/1: detections.json, images/"
    assert "device cpu" in result.out or "device cuda" in result.out
    assert "128x128" in result.out
    assert re.search(r"^(cat|dog|cow) +\d+ +\d ", result.out, re.MULTILINE)
    assert result.err == ""  # no progress line without a terminal
    folder = tmp_path / "runs/infer/efficientdet-d0/1"
    assert {f"images/{number}.jpg" for number in range(1, 6)} <= files_in(folder)
    content = plain(folder)
    assert [image["file"] for image in content["images"]] == [f"{n}.jpg" for n in range(1, 6)]
    assert content["complete"] is True
    assert content["classes"] == list(CLASSES)
    assert content["weights"]["origin"] == "detectors"
    assert any(image["detections"] for image in content["images"])
    for image in content["images"]:
        for found in image["detections"]:
            assert found["score"] > 0.5
            box = found["box"]
            assert 0 <= box["xmin"] <= box["xmax"] <= image["width"]
            assert 0 <= box["ymin"] <= box["ymax"] <= image["height"]

    again = run(checkpoint, photos, "--limit", 1, "--quiet", "--no-images")
    assert again.out == "runs/infer/efficientdet-d0/2: detections.json\n"
    assert (folder.parent / "last").resolve() == folder.parent / "2"
    assert len(plain(folder.parent / "2")["images"]) == 1


def test_boxes_are_in_pixels_of_the_picture_on_disk(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_box(self: Runner, outputs: object) -> List[Any]:
        return [(torch.tensor([[64.0, 32.0, 128.0, 60.8]]), torch.tensor([0.9]), torch.tensor([1]))]

    monkeypatch.setattr(Runner, "rows", one_box)
    assert run(checkpoint, photos / "1.jpg", "--out", "out", "--quiet").code == 0
    # 200 x 120 was scaled by 128 / 200.
    assert images_of(Path("out"))[0].boxes[0] == pytest.approx((100.0, 50.0, 200.0, 95.0))


def test_all_real_images_have_boxes_in_every_format(
    run: Infer, checkpoint: Path, shared_data: Path
) -> None:
    val = shared_data / "coco" / "val2017"
    assert run(checkpoint, val, "--score", ".05", "--format", ALL, "--out", "out").code == 0
    expected = images_of(Path("out"))
    assert len(expected) == 24
    assert all(image.labels for image in expected)
    for name in FORMATS:
        found = images_of(Path("out"), name)
        assert [image.file for image in found] == [image.file for image in expected]
        assert [sorted(image.scores) for image in found] == [sorted(i.scores) for i in expected]
        if name != "csv":
            assert [image.image_id for image in found] == [int(i.file[:-4]) for i in expected]
    assert {f"images/{image.file}" for image in expected} <= files_in(Path("out"))


def test_coco_results_load_beside_the_datasets_annotations(
    run: Infer, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    words = ("--random-weights", "--size", 128, "--score", ".005", "--format", "coco,json")
    val = shared_data / "coco" / "val2017"
    assert run("efficientdet-d0", val, *words, "--limit", 3, "--out", "out").code == 0
    truth = coco.COCO(str(shared_data / "coco" / "annotations" / "instances_val2017.json"))
    results = truth.loadRes("out/coco.json")
    assert len(results.getImgIds()) == 24
    assert len({note["image_id"] for note in results.dataset["annotations"]}) == 3
    assert {note["category_id"] for note in results.dataset["annotations"]} <= set(range(1, 91))


def test_empty_results_are_written_and_read_back(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    assert run(checkpoint, photos, "--score", 1, "--format", ALL, "--out", "out").code == 0
    for name in FORMATS:
        found = images_of(Path("out"), name)
        assert [image.file for image in found] == [f"{number}.jpg" for number in range(1, 6)]
        assert all(image.labels == () for image in found)


@pytest.mark.parametrize("settings", ["", "--multiclass --soft gaussian --top-k 300"])
def test_nms_on_device_and_host_give_the_same_detections(
    run: Infer, checkpoint: Path, photos: Path, settings: str
) -> None:
    words = (checkpoint, photos, "--limit", 2, "--score", ".3", "--no-images", *settings.split())
    assert run(*words, "--nms", "device", "--out", "device").code == 0
    assert run(*words, "--nms", "host", "--out", "host").code == 0
    assert any(image.labels for image in images_of(Path("device")))
    assert images_of(Path("device")) == images_of(Path("host"))


def test_without_nms_boxes_overlap(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detection = "detectors.commands.infer.detection.to_original"
    monkeypatch.setattr(detection, lambda boxes, placement: boxes)  # clipped ones overlap anew
    words = (checkpoint, photos / "1.jpg", "--score", ".3", "--no-images", "--quiet")
    run(*words, "--nms", "none", "--out", "none")
    run(*words, "--out", "device")
    assert largest_overlap(images_of(Path("none"))[0]) > 0.5
    assert 0 < largest_overlap(images_of(Path("device"))[0]) <= 0.501


def largest_overlap(image: ImageDetections) -> float:
    """The largest IoU of two boxes of one label."""
    overlaps = [0.0]
    for (label, one), (other, two) in itertools.combinations(zip(image.labels, image.boxes), 2):
        width = min(one[2], two[2]) - max(one[0], two[0])
        height = min(one[3], two[3]) - max(one[1], two[1])
        if label == other and width > 0 and height > 0:
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
            overlaps.append(width * height / (sum(areas) - width * height))
    return max(overlaps)


def test_a_batch_changes_no_image_and_a_short_one_is_filled_up(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = (checkpoint, photos, "--score", ".3", "--no-images", "--quiet")
    run(*words, "--out", "one")
    run(*words, "--batch", 3, "--out", "three")
    one, three = images_of(Path("one")), images_of(Path("three"))
    assert [image.file for image in three] == [image.file for image in one]
    for alone, together in zip(one, three):
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-5)
        # Rounding may swap detections of nearly equal scores: each must be there, in any place.
        found = np.column_stack([together.labels, together.boxes])
        for row in np.column_stack([alone.labels, alone.boxes]):
            assert np.abs(found - row).max(axis=1).min() < 0.01


def test_only_the_classes_that_were_asked_for_stay(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = (checkpoint, photos / "1.jpg", "--score", ".3", "--no-images", "--quiet")
    run(*words, "--out", "all")
    run(*words, "--out", "cats", "--classes", "Cat,cow")
    every, cats = images_of(Path("all"))[0], images_of(Path("cats"))[0]
    assert set(cats.labels) == {0, 2}
    assert cats.scores == tuple(
        score for label, score in zip(every.labels, every.scores) if label in (0, 2)
    )


def test_paths_come_from_stdin_too(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/2.jpg\n\n./photos/1.jpg\n"))
    assert run(checkpoint, "-", "--out", "out", "--quiet").code == 0
    assert [image.file for image in images_of(Path("out"))] == ["photos/2.jpg", "photos/1.jpg"]
    assert {"images/photos/1.jpg", "images/photos/2.jpg"} <= files_in(Path("out"))


def test_generated_pictures_need_no_files_and_random_weights_are_stamped(run: Infer) -> None:
    words = ("--generated", 2, "--random-weights", "--size", "128x192", "--score", ".005")
    result = run("d0", *words, "--max", 4, "--out", "out")
    assert result.code == 0
    assert "random weights: the detections mean nothing" in result.out
    content = plain(Path("out"))
    assert content["weights"]["origin"] == "random"
    assert content["image_size"] == [128, 192]
    assert [len(image["detections"]) for image in content["images"]] == [4, 4]
    assert "images/generated_000001.png" in files_in(Path("out"))


def test_repeating_writes_each_image_once_and_shows_the_times(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    result = run(checkpoint, photos / "1.jpg", "--repeat", 3, "--out", "out", "--no-images")
    assert re.match(r"device cpu · efficientdet-d0 [\d.]+ M .* GMAC 128x128", result.out)
    assert len(images_of(Path("out"))) == 1
    assert re.search(r"^model +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$", result.out, re.MULTILINE)
