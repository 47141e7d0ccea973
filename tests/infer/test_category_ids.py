"""The category ids that `infer.py --format coco` writes: those of the data, or label + 1."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest
import torch

from data.formats import FORMATS, Classes, ImageDetections
from detectors.commands.infer.batches import Prepared
from detectors.commands.infer.results import Results
from detectors.commands.infer.resume import earlier_images
from detectors.models.efficientdet.config import CONFIGS, EfficientDetConfig
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.postprocess import PostprocessConfig
from detectors.weights import save

Infer = Callable[..., Any]

DETECTION = "detectors.commands.infer.detection.image_detections"


def parsed(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def instances(shared_data: Path) -> Dict[str, Any]:
    """val2017's own file."""
    content: Dict[str, Any] = parsed(
        str(shared_data / "coco" / "annotations" / "instances_val2017.json")
    )
    return content


@pytest.fixture(scope="module")
def contiguous(instances: Dict[str, Any]) -> Dict[int, int]:
    """Label by category id of a detector that has COCO's 80 classes one after another."""
    return {one["id"]: label for label, one in enumerate(instances["categories"])}


def small(num_classes: int) -> EfficientDet:
    torch.manual_seed(0)
    config = dataclasses.replace(
        CONFIGS["efficientdet-d0"],
        fpn_cells=1,
        head_repeats=1,
        fpn_channels=8,
        num_classes=num_classes,
        image_size=(64, 64),
    )
    return build_efficientdet(config, PostprocessConfig())


@pytest.fixture(scope="module")
def eighty(instances: Dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a detector, as a training with data.labels=order leaves it."""
    names = [one["name"] for one in instances["categories"]]
    ids = [one["id"] for one in instances["categories"]]
    path = tmp_path_factory.mktemp("eighty") / "best.pt"
    return save(small(80), path, classes=names, category_ids=ids)


@pytest.fixture
def truthful(
    instances: Dict[str, Any], contiguous: Dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the network says, exactly the annotated objects are found, in contiguous labels."""

    def found(
        item: Prepared, row: object, wanted: Optional[Sequence[int]] = None
    ) -> ImageDetections:
        place = item.placement
        mine = [
            one
            for one in instances["annotations"]
            if one["image_id"] == place.image_id and not one["iscrowd"]
        ]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in mine)]
        labels = tuple(contiguous[one["category_id"]] for one in mine)
        height, width = place.original_size
        scores = (0.9,) * len(mine)
        return ImageDetections(
            place.name, place.image_id, width, height, labels, scores, tuple(boxes)
        )

    monkeypatch.setattr(DETECTION, found)


@pytest.mark.usefixtures("truthful")
def test_eighty_classes_are_judged_beside_cocos_own_annotations(
    run: Infer, eighty: Path, instances: Dict[str, Any], shared_data: Path
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    words = ("--format", "coco,json", "--no-images", "--out", "out")
    result = run(eighty, shared_data / "coco" / "val2017", *words)
    assert result.code == 0
    assert "label + 1" not in result.out
    truth = coco.COCO(str(shared_data / "coco" / "annotations" / "instances_val2017.json"))
    judge = cocoeval.COCOeval(truth, truth.loadRes("out/coco.json"), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    # All is found: AP, AP50, AP75 and the recall of 100 are 1. Written as 1..80 most would be 0.
    assert judge.stats[[0, 1, 2, 8]] == pytest.approx(1.0)
    about = parsed("out/coco_images.json")
    assert about["info"] == {"category_ids": "of the data"}
    named = {one["id"]: one["name"] for one in instances["categories"]}
    assert {one["id"]: one["name"] for one in about["categories"]} == named
    assert parsed("out/detections.json")["category_ids"] == list(named)


def test_without_ids_they_are_label_plus_one_and_that_is_said(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = (photos, "--score", ".3", "--no-images", "--limit", 1)
    result = run(checkpoint, *words, "--format", "coco", "--out", "coco")
    assert "note: category_id in coco.json is label + 1: the weights do not say" in result.out
    about = parsed("coco/coco_images.json")
    assert about["info"] == {"category_ids": "label + 1"}
    assert [(one["id"], one["name"]) for one in about["categories"]] == [
        (1, "cat"),
        (2, "dog"),
        (3, "cow"),
    ]
    assert {one["category_id"] for one in parsed("coco/coco.json")} <= {1, 2, 3}
    assert "label + 1" not in run(checkpoint, *words, "--out", "json").out


def test_a_slot_without_a_class_is_written_by_its_number(
    run: Infer, small_d0: EfficientDetConfig
) -> None:
    words = ("--random-weights", "--generated", 1, "--no-images", "--format", "coco,json")
    result = run("d0", *words, "--score", ".001", "--out", "out")
    assert "label + 1" not in result.out  # 90 outputs are COCO's, whose ids are known
    names = {one["id"]: one["name"] for one in parsed("out/coco_images.json")["categories"]}
    assert list(names) == list(range(1, 91))
    assert (names[1], names[12], names[13]) == ("person", "unused 12", "stop sign")
    refused = run("d0", *words, "--classes", "unused 12", "--out", "other")
    assert refused.code == 2
    assert "unused 12 is not among 90 names" in refused.err


def stopped_after_two(words: Sequence[object], run: Infer, patch: pytest.MonkeyPatch) -> None:
    """A run that SIGTERM ends while the second picture is written."""
    add = Results.add
    seen: List[str] = []

    def counted(self: Results, image: ImageDetections) -> None:
        seen.append(image.file)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGTERM)
        add(self, image)

    with patch.context() as inner:
        inner.setattr(Results, "add", counted)
        assert run(*words).code == 143


@pytest.mark.usefixtures("truthful")
def test_a_resumed_run_writes_one_kind_of_ids(
    run: Infer,
    eighty: Path,
    shared_data: Path,
    instances: Dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Before ids travelled with a checkpoint, coco.json had label + 1 and detections.json no ids: a
    # run that was stopped then and goes on now must not keep the first pictures' numbers.
    val = shared_data / "coco" / "val2017"
    words = (eighty, val, "--limit", 6, "--format", "coco,json", "--no-images", "--out", "out")
    stopped_after_two(words, run, monkeypatch)
    content = parsed("out/detections.json")
    assert len(content["images"]) == 2
    ids = content.pop("category_ids")
    Path("out/detections.json").write_text(json.dumps(content))
    early = parsed("out/coco.json")
    for one in early:
        one["category_id"] = ids.index(one["category_id"]) + 1
    Path("out/coco.json").write_text(json.dumps(early))

    assert run(*words, "--resume").code == 0
    pictures = [image["image_id"] for image in parsed("out/detections.json")["images"]]
    assert len(pictures) == 6
    assert sorted((one["image_id"], one["category_id"]) for one in parsed("out/coco.json")) == (
        sorted(
            (one["image_id"], one["category_id"])
            for one in instances["annotations"]
            if one["image_id"] in pictures and not one["iscrowd"]
        )
    )


def test_a_run_of_other_ids_is_not_resumed(tmp_path: Path) -> None:
    before, now = Classes(["cat", "dog"], [17, 18]), Classes(["cat", "dog"], [1, 2])
    FORMATS["json"].open(tmp_path, before, {"model": "m"}).close(complete=False)
    assert earlier_images(tmp_path, {"model": "m"}, before) == []
    with pytest.raises(ValueError, match="was made with other category_ids than these weights"):
        earlier_images(tmp_path, {"model": "m"}, now)
