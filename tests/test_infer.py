"""`infer.py` from command line to files: what it promises, and every mistake people make."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import infer
from data.formats import FORMATS, Classes, ImageDetections
from detectors.commands.infer.results import Results
from detectors.commands.infer.runner import Runner
from detectors.models.efficientdet.config import CONFIGS
from detectors.models.efficientdet.inference import build_efficientdet
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.models.faster_rcnn.config import CONFIGS as FASTER_RCNN
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from detectors.models.faster_rcnn.random_weights import spread_outputs as spread_regions
from detectors.postprocess import PostprocessConfig
from detectors.weights import known, make_record, save

CLASSES = ("cat", "dog", "cow")
ALL = ",".join(FORMATS)
TINY: Dict[str, Any] = {
    "fpn_cells": 1,
    "head_repeats": 1,
    "fpn_channels": 32,
    "num_classes": len(CLASSES),
    "image_size": (128, 128),
}


class Run(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on the screen."""
        return self.out.splitlines()[-1]


Infer = Callable[..., Run]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector of three classes whose scores and boxes vary; D0's backbone and one BiFPN
    cell.
    """
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIGS["efficientdet-d0"], **TINY)
    model = spread_outputs(build_efficientdet(config, PostprocessConfig()), logits_std=1.5)
    bias = model.network.class_head.predict.pointwise.bias
    assert isinstance(bias, torch.Tensor)
    torch.nn.init.zeros_(bias)
    path = tmp_path_factory.mktemp("weights") / "tiny.ckpt"
    return save(model, path, classes=CLASSES)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Infer:
    """Run infer.py's main in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> Run:
        capsys.readouterr()
        code = infer.main([str(word) for word in words])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Run(code, seen.out, seen.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five small photos: 1.jpg, 2.jpg, ... of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(1, 6):
        pixels = random.integers(0, 256, (60 + 10 * number, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((200, 100 + 20 * number)).save(folder / f"{number}.jpg")
    return folder


def images_of(folder: Path, name: str = "json") -> List[ImageDetections]:
    return FORMATS[name].read(folder, Classes(CLASSES))


def plain(folder: Path) -> Dict[str, Any]:
    content: Dict[str, Any] = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    return content


def files_in(folder: Path) -> Set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# What it promises


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


def test_the_benchmark_has_the_labels_that_programs_read(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = ("--benchmark", "--repeat", 2, "--batch", 2, "--out", "out")
    result = run(checkpoint, photos, *words)
    assert result.code == 0
    assert re.search(r"throughput: ([\d.]+) samples/sec,", result.out)
    batch = re.search(r"Per-batch latency avg: ([\d.]+) ms,", result.out)
    image = re.search(r"Per-image latency avg: ([\d.]+) ms,", result.out)
    assert batch is not None
    assert image is not None
    assert float(batch[1]) == pytest.approx(2 * float(image[1]), abs=0.02)
    assert "Benchmark complete" in result.out
    values = json.loads(Path("out/benchmark.json").read_text())
    assert values["calls"] == 4  # ten images are five calls, and the first warms up
    assert set(values["per_image"]) == {"read", "preprocess", "model", "postprocess"}
    assert set(values["per_image"]["model"]) == {"mean", "p50", "p90", "p99", "min", "max"}
    assert result.last == "out: benchmark.json"


def test_a_benchmark_counts_full_calls_after_the_threads_are_found(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    words = ("--benchmark", "--repeat", 5, "--batch", 2, "--threads", "auto", "--out", "out")
    result = run(checkpoint, photos, *words)
    assert result.code == 0
    assert re.search(r"^\([12] threads?, best of 2/1\)$", result.out, re.MULTILINE)
    # 25 images are 12 full calls; the first warms up, and 2 with each number of threads are trials
    values = json.loads(Path("out/benchmark.json").read_text())
    assert (values["calls"], values["threads"]) == (7, 2)


def test_a_benchmark_with_a_config_has_more_than_the_call_that_warms_up(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    # throughput would take 100 batches of 4 in one call, and there are 10 images
    words = ("--benchmark", "--repeat", 2, "--config", "throughput", "--out", "out")
    assert run(checkpoint, photos, *words).code == 0
    assert json.loads(Path("out/benchmark.json").read_text())["calls"] == 1


def test_the_worst_case_runs_every_round_of_nms(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: List[int] = []
    rows = Runner.rows

    def counted(self: Runner, outputs: Any) -> Any:
        found = rows(self, outputs)
        counts.extend(len(row.scores) for row in found)
        return found

    monkeypatch.setattr(Runner, "rows", counted)
    words = ("--benchmark", "--repeat", 1, "--max", 77, "--limit", 2, "--out", "out")
    result = run(checkpoint, photos, *words, "--worst-case")
    assert result.code == 0
    assert counts == [77, 77]
    assert "NMS ran 77 rounds in every image" in result.out


def test_an_executable_runs_real_images_and_refuses_other_settings(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = (checkpoint, "--score", ".3", "--batch", 2)
    result = run(*words, "--compile-only", "tiny.poptorch")
    assert result.code == 0
    assert "--executable tiny.poptorch" in result.last
    show = (photos, "--no-images", "--quiet")
    assert run(*words, *show, "--executable", "tiny.poptorch", "--out", "ahead").code == 0
    assert run(*words, *show, "--out", "now").code == 0
    assert images_of(Path("ahead")) == images_of(Path("now"))
    assert any(image.labels for image in images_of(Path("now")))

    other = run(checkpoint, *show, "--batch", 3, "--executable", "tiny.poptorch")
    assert other.code == 2
    assert "compiled with micro_batch_size 2, this run has 3" in other.err
    tiles = ("--config", "low-latency", "--batch", 2, "--executable", "tiny.poptorch")
    other = run(checkpoint, *show, "--score", ".3", *tiles)
    assert other.code == 2
    assert "compiled with io_tiles 0, this run has 96" in other.err
    Path("tiny.poptorch").write_text("damaged")
    damaged = run(*words, *show, "--executable", "tiny.poptorch")
    assert damaged.code == 1
    assert "Invalid file tiny.poptorch" in damaged.err
    assert "a fault of the program" not in damaged.err
    absent = run(*words, *show, "--executable", "none.poptorch")
    assert absent.code == 2
    assert "--compile-only none.poptorch makes it" in absent.err


def test_a_config_sets_the_batch_and_words_override_it(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: List[int] = []
    call = Runner.__call__

    def noted(self: Runner, images: Tensor) -> Any:
        sizes.append(self.images_per_call)
        return call(self, images)

    monkeypatch.setattr(Runner, "__call__", noted)
    words = (checkpoint, photos, "--no-images", "--quiet", "--config", "throughput")
    # D0's recipe has batches of 4 and 100 of them in a call: 2 calls' worth of images are enough
    # here.
    assert run(*words).code == 0
    assert run(*words, "--set", "micro_batch_size=2", "--set", "device_iterations=1").code == 0
    assert run(*words, "--set", "micro_batch_size=2", "--batch", 5).code == 0
    assert sizes == [8, 2, 2, 2, 5]


def test_a_second_run_takes_weights_from_the_cache(
    run: Infer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(CONFIGS["efficientdet-d0"], **{**TINY, "num_classes": 90})
    monkeypatch.setitem(CONFIGS, "efficientdet-d0", small)
    saved = save(build_efficientdet(small, PostprocessConfig()), tmp_path / "new.pth")
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    published = saved.rename(tmp_path / f"tiny-{sha256[:8]}.pth")
    entry = known.KnownCheckpoint("d0", published.as_uri())
    monkeypatch.setitem(known.KNOWN, "tf_efficientdet_d0", entry)
    words = ("d0", photos / "1.jpg", "--no-images", "--quiet")
    assert run(*words).code == 0
    assert run(*words, "--weights", "tf_efficientdet_d0").code == 0  # the same, by its own name
    published.unlink()
    touched = "urllib.request.urlopen"
    monkeypatch.setattr(touched, lambda *_, **__: pytest.fail("the network was touched"))
    assert run(*words).code == 0


# Faster R-CNN


@pytest.fixture(scope="session")
def two_stages() -> FasterRCNN:
    """A ResNet-18 C4 of three classes at 64 px, ten regions, whose scores and boxes vary."""
    torch.manual_seed(0)
    config = FASTER_RCNN["seed"]
    config = dataclasses.replace(
        config,
        name="faster_rcnn-r18_c4",
        depth=18,
        num_classes=len(CLASSES),
        image_size=(64, 64),
        norm="batch",
        frozen_stages=0,
        rpn=dataclasses.replace(config.rpn, post_nms=(10, 10)),
    )
    return spread_regions(build_faster_rcnn(config), logits_std=2.0)


@pytest.fixture
def trained(two_stages: FasterRCNN, tmp_path: Path) -> Path:
    """The folder of a training run with Lightning's best checkpoint in it."""
    folder = tmp_path / "runs" / "mine" / "1"
    folder.mkdir(parents=True)
    state = {f"model.{name}": value for name, value in two_stages.state_dict().items()}
    record = make_record(two_stages, CLASSES, {"image": {"fit": "squash", "short_edges": []}})
    content = {"state_dict": state, "loops": {}, "detectors": record}
    torch.save(content, folder / "best.ckpt")
    return folder


def test_a_training_runs_folder_is_a_model_with_its_own_names_and_ways(
    run: Infer, trained: Path, photos: Path
) -> None:
    words = (photos, "--score", ".2", "--format", ALL, "--out", "out")
    result = run(trained / "best.ckpt", *words)
    assert result.code == 0
    assert "faster_rcnn-r18_c4" in result.out
    content = plain(Path("out"))
    assert content["classes"] == list(CLASSES)
    assert content["iou_threshold"] == 0.3  # the variant's
    assert content["fit"] == "squash"
    expected = images_of(Path("out"))
    assert any(image.labels for image in expected)
    for name in FORMATS:
        assert [image.file for image in images_of(Path("out"), name)] == [
            image.file for image in expected
        ]
    assert {f"images/{number}.jpg" for number in range(1, 6)} <= files_in(Path("out"))
    for image in expected:  # a squashed picture's boxes reach both edges of the picture on disk
        assert all(0 <= x <= image.width and 0 <= y <= image.height for x, y, _, _ in image.boxes)
    below = max(box[3] / image.height for image in expected for box in image.boxes)
    assert below > 0.75  # a letterboxed 200 x 120 ends at 0.6 of the input


def test_regions_nms_on_device_and_host_give_the_same_detections(
    run: Infer, trained: Path, photos: Path
) -> None:
    words = (trained, photos, "--limit", 2, "--score", ".1", "--no-images", "--iou", ".5")
    assert run(*words, "--out", "device").code == 0
    assert run(*words, "--nms", "host", "--out", "host").code == 0
    assert run(*words, "--limit", 1, "--precision", "bf16", "--out", "low").code == 0
    assert any(image.labels for image in images_of(Path("device")))
    assert images_of(Path("device")) == images_of(Path("host"))


def test_a_faster_rcnn_by_its_name_takes_weights_or_random_ones(
    run: Infer, trained: Path, photos: Path
) -> None:
    words = ("--no-images", "--out")
    best = trained / "best.ckpt"
    assert run("R18-C4", photos / "1.jpg", "--weights", best, *words, "named").code == 0
    assert run(best, photos / "1.jpg", *words, "alone").code == 0
    assert images_of(Path("named")) == images_of(Path("alone"))
    made = ("--generated", 1, "--random-weights", "--size", 64, "--max", 4, "--score", ".001")
    assert run("faster_rcnn-r18_c4", *made, *words, "random").code == 0
    content = plain(Path("random"))
    assert content["weights"]["origin"] == "random"
    assert content["classes"][0] == "aeroplane"
    assert len(content["images"][0]["detections"]) == 4


def test_a_faster_rcnn_without_weights_of_its_own_is_refused(
    run: Infer, two_stages: FasterRCNN, trained: Path, photos: Path, tmp_path: Path
) -> None:
    trained.rename(tmp_path / "kept")
    (tmp_path / "runs" / "mine").rmdir()
    (tmp_path / "runs").rmdir()
    best = tmp_path / "kept" / "best.ckpt"
    refused(run("faster_rcnn-r18_c4", photos), 2, "--weights", "best.ckpt", "--random-weights")
    refused(run("r34_c4", photos, "--weights", best), 2, "faster_rcnn-r18_c4", "depth 18 -> 34")
    words = ("r18_c4", photos, "--weights", best, "--num-classes", 20)
    refused(run(*words), 2, "has 3 classes, --num-classes is 20")
    classifier = tmp_path / "resnet18-f37072fd.pth"
    torch.save(two_stages.network.backbone.state_dict(), classifier)
    head = "10 tensors of faster_rcnn-r18_c4 (box_head, rpn) would be missing"
    refused(run("r18_c4", photos, "--weights", classifier), 2, "without a detection head", head)
    refused(run(classifier, photos), 2, "without a detection head: 10 tensors")
    refused(run("faster_rcnn-r50", photos), 2, "did you mean faster_rcnn-r50_c4")


# Images of every kind


def test_every_kind_of_picture_is_taken_and_broken_ones_are_named(
    run: Infer, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(random.integers(0, 65536, (40, 60), dtype=np.uint16)).save(folder / "deep.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.save(folder / "Bär 🐻 *.jpg")
    photo.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-400])
    (folder / "text.jpg").write_text("this is no picture")

    result = run(checkpoint, folder, "--score", ".05", "--format", ALL, "--out", "out")
    assert result.code == 0
    names = {"cmyk.jpg", "deep.png", "grey_alpha.png", "moving.gif", "turned.jpg"}
    names |= {"Bär 🐻 *.jpg"}
    sizes = {image.file: (image.width, image.height) for image in images_of(Path("out"))}
    assert set(sizes) == names
    assert sizes["turned.jpg"] == (40, 60)  # upright: wide on disk, high to people
    for name in FORMATS:
        assert {image.file for image in images_of(Path("out"), name)} == names
    drawn = {
        "images/moving.gif.png" if name == "moving.gif" else f"images/{name}" for name in names
    }
    assert drawn <= files_in(Path("out"))
    with Image.open("out/images/turned.jpg") as drawing:
        assert drawing.size == (40, 60)
    assert "2 images could not be read:" in result.out
    assert "cut.jpg: image file is truncated" in result.out
    assert "text.jpg: not an image (starts with b'this is '" in result.out
    unreadable = {entry["file"] for entry in plain(Path("out"))["unreadable"]}
    assert unreadable == {"cut.jpg", "text.jpg"}

    strict = run(checkpoint, folder, "--strict", "--no-images", "--quiet")
    assert strict.code == 1
    assert "error: --strict: 2 images could not be read, the first is cut.jpg: " in strict.err


def test_a_panorama_is_read_and_its_small_objects_are_worth_a_note(
    run: Infer, checkpoint: Path, tmp_path: Path
) -> None:
    Image.new("1", (12000, 9000)).save(tmp_path / "panorama.png")  # 108 million pixels, 13 kB
    result = run(checkpoint, "panorama.png", "--score", ".05", "--out", "out", "--no-images")
    assert result.code == 0
    assert (images_of(Path("out"))[0].width, images_of(Path("out"))[0].height) == (12000, 9000)
    assert "panorama.png is 12000 pixels long, the network sees 128" in result.out


def test_only_unreadable_images_are_a_failure(run: Infer, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    result = run(checkpoint, "a.jpg", "--out", "out")
    assert result.code == 1
    assert "1 image could not be read" in result.out
    assert result.err.startswith("error: nothing was read: 1 image could not be read, the first is")
    assert plain(Path("out"))["images"] == []


# Mistakes: an exit code, at most six lines, nothing written


def refused(result: Run, code: int, *parts: str) -> None:
    """The run ended with `code`, said each of `parts` on at most six lines, and wrote nothing."""
    assert result.code == code
    lines = result.err.strip().splitlines()
    assert 1 <= len(lines) <= 6
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in result.err
    assert not Path("runs").exists()


def test_a_wrong_model_name_is_answered_with_the_nearest(run: Infer, photos: Path) -> None:
    refused(run("efficientdet-d9", photos), 2, "efficientdet-d9", "did you mean", "efficientdet-d7")


def test_a_checkpoint_that_is_not_there_is_a_mistake(run: Infer, photos: Path) -> None:
    refused(run("runs_of_mine/best.ckpt", photos), 2, "runs_of_mine/best.ckpt")
    refused(run("d0", photos, "--weights", "none.pth"), 2, "none.pth")


def test_a_run_folder_without_a_checkpoint_is_a_mistake(run: Infer, photos: Path) -> None:
    refused(run(photos, photos), 2, "no best.ckpt or last.ckpt")


def test_a_run_folder_stands_for_its_best_checkpoint(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.ckpt").write_bytes(checkpoint.read_bytes())
    result = run("mine", photos / "1.jpg", "--no-images")
    assert result.code == 0
    assert "weights best.ckpt (detectors)" in result.out


def test_a_checkpoint_with_weights_beside_it_contradicts_itself(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    refused(run(checkpoint, photos, "--random-weights"), 2, "brings its weights")


def test_images_in_the_place_of_the_model_are_told_so(run: Infer, photos: Path) -> None:
    refused(run("photos"), 2, "photos stands where the model does")
    refused(run("photos/1.jpg"), 2, "infer.py efficientdet-d2 photos/1.jpg")
    refused(run("photos", "photos"), 2, "the first word is the model")
    refused(run("photos/1.jpg", "photos"), 2, "starts with b'", "no file of tensors")


def test_a_wrong_path_is_answered_with_the_nearest(run: Infer, photos: Path) -> None:
    refused(run("d0", "phots", "--random-weights"), 2, "phots", "did you mean photos?")


def test_an_empty_folder_says_what_was_looked_for(run: Infer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(run("d0", "empty", "--random-weights"), 2, "no images in empty/", "jpg jpeg png")


def test_images_in_sub_folders_are_found_with_recursive(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "top").mkdir()
    photos.rename(tmp_path / "top" / "photos")
    refused(run(checkpoint, "top"), 2, "1 sub-folders: use --recursive")
    assert run(checkpoint, "top", "--recursive", "--out", "out", "--quiet").code == 0
    assert "images/photos/1.jpg" in files_in(Path("out"))


def test_an_empty_list_on_stdin_is_a_mistake(
    run: Infer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    refused(run(checkpoint, "-"), 2, "stdin listed no paths")


def test_a_class_that_the_model_lacks_is_answered_with_the_nearest(
    run: Infer, photos: Path
) -> None:
    words = ("d0", photos, "--random-weights", "--classes", "zebra,unicorn")
    refused(run(*words), 2, "unicorn is not among 90 names", "nearest:")


def test_another_number_of_classes_is_refused_with_both(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(CONFIGS["efficientdet-d0"], **{**TINY, "num_classes": 90})
    monkeypatch.setitem(CONFIGS, "efficientdet-d0", small)
    result = run("d0", photos, "--weights", checkpoint)
    refused(result, 2, "3 classes (cat, dog, cow)", "model: 90")


def test_a_wrong_option_or_value_is_answered(run: Infer, photos: Path) -> None:
    refused(run("d0", photos, "--scor", ".3"), 2, "no option '--scor'", "--score")
    refused(run("d0", photos, "--score", "high"), 2, "expected a number in 0..1, got 'high'")


def test_a_wrong_config_key_or_value_is_answered(run: Infer, photos: Path, tmp_path: Path) -> None:
    words = ("d0", photos, "--random-weights", "--config")
    refused(run(*words, "throughputt"), 2, "did you mean throughput?")
    refused(run(*words, "throughput", "--set", "io_tilez=32"), 2, "did you mean io_tiles")
    refused(run(*words, "throughput", "--set", "io_tiles=abc"), 2, "io_tiles", "abc")
    refused(run(*words, "none.yaml"), 2, "none.yaml")


def test_an_output_folder_with_files_is_kept_unless_told(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    words = (checkpoint, photos / "1.jpg", "--no-images", "--quiet", "--out", "out")
    refused(run(*words), 2, "--out out has files in it", "--overwrite")
    assert files_in(tmp_path / "out") == {"notes.txt"}
    assert run(*words, "--overwrite").code == 0
    assert files_in(tmp_path / "out") == {"notes.txt", "detections.json", "run.log"}


def test_nothing_over_the_score_names_the_best_and_what_to_try(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    result = run(checkpoint, photos, "--score", 1, "--no-images")
    assert result.code == 0
    found = re.search(
        r"0 boxes > 1; best is [\d.]+ \((cat|dog|cow), \d.jpg\): try --score", result.out
    )
    assert found is not None


def test_weights_that_cannot_be_had_are_never_replaced_by_random_ones(
    run: Infer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    result = run("d0", photos)
    refused(result, 1, "https://", "f153e0cf", str(tmp_path / "cache"), "--weights")
    left = {path.suffix for path in (tmp_path / "cache").rglob("*")}
    assert not left & {".pth", ".part"}


def test_torchvision_of_another_release_is_explained(
    run: Infer, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mismatch(args: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("detectors.commands.infer.model.load_model", mismatch)
    refused(run("d0", photos, "--random-weights"), 1, "does not fit torchvision", "pip install")


def test_a_device_that_is_not_there_is_not_replaced(run: Infer, photos: Path) -> None:
    if not torch.cuda.is_available():
        refused(run("d0", photos, "--device", "cuda"), 1, "--device cuda", "--device cpu")
    refused(run("d0", photos, "--device", "ipu"), 1, "Poplar SDK", "--device cpu")


def test_out_of_memory_says_what_needs_less(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: Runner, images: Tensor) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 GB")

    monkeypatch.setattr(Runner, "__call__", exhausted)
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "out of memory" in result.err
    assert "--batch" in result.err
    assert plain(Path("out"))["complete"] is False
    assert "Traceback" in Path("out/run.log").read_text()


def test_a_full_disk_leaves_what_was_done(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3, lambda: fail(OSError(errno.ENOSPC, "No space left", "images/3.jpg")))
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "disk full writing images/3.jpg" in result.err
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]


def fail(error: BaseException) -> None:
    raise error


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], object]) -> None:
    """Do something while the `number`-th image is written."""
    add = Results.add
    seen: List[str] = []

    def counted(self: Results, image: ImageDetections, pixels: Any) -> None:
        seen.append(image.file)
        if len(seen) == number:
            action()
        add(self, image, pixels)

    monkeypatch.setattr(Results, "add", counted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_valid_files_and_resume_does_the_rest(
    run: Infer,
    checkpoint: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    words = (checkpoint, photos, "--score", ".3", "--format", "json,csv", "--out", "out")
    with monkeypatch.context() as patch:
        stop_at(patch, 2, lambda: signal.raise_signal(number))
        stopped = run(*words)
    assert stopped.code == code
    assert "--resume" in stopped.out
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]
    assert plain(Path("out"))["complete"] is False

    calls: List[int] = []
    call = Runner.__call__

    def noted(self: Runner, images: Tensor) -> Any:
        calls.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Runner, "__call__", noted)
    assert run(*words, "--resume").code == 0
    assert calls == [1, 1, 1]  # 3.jpg, 4.jpg, 5.jpg
    assert plain(Path("out"))["complete"] is True
    assert [image.file for image in images_of(Path("out"), "csv")] == [
        f"{n}.jpg" for n in range(1, 6)
    ]

    other = run(*words, "--resume", "--iou", ".4")
    assert other.code == 2
    assert "was made with iou_threshold 0.5, this command has 0.4" in other.err


def test_a_second_ctrl_c_stops_at_once_with_valid_files(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    stop_at(monkeypatch, 3, twice)
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 130
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]


def test_ctrl_c_in_a_terminal_ends_the_process_with_130(
    checkpoint: Path, photos: Path, repository: Path
) -> None:
    words = [
        "infer.py",
        str(checkpoint),
        str(photos),
        "--repeat",
        "100000",
        "--out",
        str(photos / "out"),
    ]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with ended(process):
        part = photos / "out" / "detections.json.part"
        for _ in range(600):
            if part.exists() and '"file": "5.jpg"' in part.read_text(encoding="utf-8"):
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert b"Traceback" not in output
    assert len(plain(photos / "out")["images"]) == 5


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process does not outlive a test that fails."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_fault_of_the_program_ends_with_one_and_a_log(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 1, lambda: fail(KeyError("ours")))
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "error: KeyError: 'ours'" in result.err
    assert "Traceback" in Path("out/run.log").read_text()


@pytest.mark.slow
def test_memory_stays_flat_over_many_images(
    checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("resource", reason="needs Unix's resource module")
    program = (
        "import resource, sys, infer\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "words = [sys.argv[1], '--quiet', '--score', '0.05', '--size', '64', '--no-images',"
        " '--format', 'json,coco,csv,voc,yolo']\n"
        "infer.main(words + ['--generated', '20', '--out', sys.argv[2] + '/a'])\n"
        "before = peak()\n"
        "infer.main(words + ['--generated', '220', '--out', sys.argv[2] + '/b'])\n"
        "print(peak() - before)\n"
    )
    words = [sys.executable, "-c", program, str(checkpoint), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        words, cwd=repository, capture_output=True, text=True, check=True, env=environment
    )
    assert float(result.stdout.splitlines()[-1]) < 60  # 200 images of 0.9 MB would be 180
