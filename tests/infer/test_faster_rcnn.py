"""`infer.py` with a Faster R-CNN: a training's folder, a name, weights of others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from data.formats import FORMATS
from detectors.models.faster_rcnn.config import CONFIGS as FASTER_RCNN
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from detectors.models.faster_rcnn.random_weights import spread_outputs as spread_regions
from detectors.weights import make_record
from tests.infer.small_runs import ALL, CLASSES, Infer, files_in, images_of, plain


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
    run("faster_rcnn-r18_c4", photos).refused(2, "--weights", "best.ckpt", "--random-weights")
    run("r34_c4", photos, "--weights", best).refused(2, "faster_rcnn-r18_c4", "depth 18 -> 34")
    words = ("r18_c4", photos, "--weights", best, "--num-classes", 20)
    run(*words).refused(2, "has 3 classes, --num-classes is 20")
    classifier = tmp_path / "resnet18-f37072fd.pth"
    torch.save(two_stages.network.backbone.state_dict(), classifier)
    head = "10 tensors of faster_rcnn-r18_c4 (box_head, rpn) would be missing"
    run("r18_c4", photos, "--weights", classifier).refused(2, "without a detection head", head)
    run(classifier, photos).refused(2, "without a detection head: 10 tensors")
    run("faster_rcnn-r50", photos).refused(2, "did you mean faster_rcnn-r50_c4")
