"""COCO's val set through the whole path: official ids, files that its server takes, and scores that
pycocotools gives by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
import torch

from detectors import efficientdet, load_weights
from detectors.__main__ import main
from detectors.models.efficientdet.inference import EfficientDet
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.weights import save
from detectors.weights.coco_names import COCO_90

STATISTICS = [
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
]


@pytest.fixture
def coco(shared_data: Path) -> Path:
    """COCO's mini set; skipped where it or its judge is not there."""
    pytest.importorskip("pycocotools")
    return shared_data / "coco"


def truth_file(coco: Path) -> Path:
    return coco / "annotations" / "instances_val2017.json"


def evaluate(coco: Path, runs: Path, *words: str) -> Path:
    """`python -m detectors evaluate` on val2017; returns its folder."""
    data = ["data.format=coco", f"data.root={coco}", "data.val=[val2017]", "data.workers=0"]
    judge = ["evaluate.flavours=[coco]", "evaluate.metric=AP_coco", "evaluate.resamples=0"]
    rest = ["image.size=128", f"run.root={runs}", "device=cpu"]
    assert main(["evaluate", "recipe=generated", *data, *judge, *rest, *words]) == 0
    folders = sorted((runs / "evaluate" / "generated").iterdir(), key=lambda path: path.name)
    return [path for path in folders if path.name != "last"][-1]


def by_hand(coco: Path, results: Path) -> Dict[str, float]:
    """pycocotools' own numbers of a results file against the official annotations."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file(coco)))
        judge = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {f"{name}_coco": float(value) for name, value in zip(STATISTICS, judge.stats)}


def no_number(text: str) -> float:
    raise AssertionError(f"{text} in a results file")


def require_uploadable(coco: Path, results: Path) -> List[Dict[str, Any]]:
    """What COCO's server asks of a results file; returns its entries."""
    truth = json.loads(truth_file(coco).read_text())
    categories = {entry["id"] for entry in truth["categories"]}
    images = {entry["id"]: entry for entry in truth["images"]}
    entries: List[Dict[str, Any]] = json.loads(results.read_text(), parse_constant=no_number)
    assert entries
    for one in entries:
        assert set(one) == {"image_id", "category_id", "bbox", "score"}
        assert type(one["image_id"]) is type(one["category_id"]) is int
        assert one["category_id"] in categories
        image = images[one["image_id"]]
        x, y, width, height = one["bbox"]
        assert all(math.isfinite(value) for value in (x, y, width, height, one["score"]))
        assert min(x, y, width, height) >= 0
        assert x + width <= image["width"] + 0.01
        assert y + height <= image["height"] + 0.01
        assert 0.001 < one["score"] <= 1
    most = max(sum(one["image_id"] == number for one in entries) for number in images)
    assert most <= 100
    return entries


def require_the_same(scores: Dict[str, Any], wanted: Dict[str, float]) -> None:
    for key, value in wanted.items():
        ours = -1.0 if scores[key] is None else scores[key]
        assert ours == pytest.approx(value, abs=1e-12), key


def checkpoint(path: Path, model: EfficientDet, classes: Sequence[Any]) -> Path:
    return save(model, path, classes=classes)


def test_ninety_slots_write_official_ids_and_pycocotools_agrees(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = spread_outputs(efficientdet("d0", 90, image_size=128), seed=0)
    weights = checkpoint(tmp_path / "d0.ckpt", model, COCO_90)
    folder = evaluate(coco, tmp_path, f"weights={weights}", "evaluate.nms=[hard,soft]")
    scores = json.loads((folder / "scores.json").read_text())
    both = {"detections.json": scores, "detections_soft.json": scores["other_nms"]["soft"]}
    for file, theirs in both.items():
        require_uploadable(coco, folder / file)
        require_the_same(theirs, by_hand(coco, folder / file))
    shown = capsys.readouterr().out
    assert "AP_coco (hard NMS)" in shown
    assert "AP_coco (soft NMS)" in shown
    assert "efficientdet-d0 128x128 · 90 classes" in shown


def test_a_model_of_the_eighty_categories_writes_official_ids(coco: Path, tmp_path: Path) -> None:
    names = [name for name in COCO_90 if name]
    model = spread_outputs(efficientdet("d0", 80, image_size=128), seed=1)
    weights = checkpoint(tmp_path / "d0.ckpt", model, names)
    folder = evaluate(coco, tmp_path, f"weights={weights}")
    entries = require_uploadable(coco, folder / "detections.json")
    assert max(one["category_id"] for one in entries) > 80
    scores = json.loads((folder / "scores.json").read_text())
    require_the_same(scores, by_hand(coco, folder / "detections.json"))


def test_good_detections_score_as_by_hand(coco: Path, tmp_path: Path) -> None:
    """Boxes of the truth, moved, some of another class: scores that are neither 0 nor 1."""
    draw = random.Random(3)
    results = []
    for box in json.loads(truth_file(coco).read_text())["annotations"]:
        for _ in range(draw.choice((0, 1, 1, 2))):
            x, y, width, height = box["bbox"]
            moved = [x + draw.gauss(0, width / 10), y + draw.gauss(0, height / 10), width, height]
            category = box["category_id"] if draw.random() < 0.9 else 1
            entry = {"image_id": box["image_id"], "category_id": category, "bbox": moved}
            results.append({**entry, "score": draw.random()})
    given = tmp_path / "given.json"
    given.write_text(json.dumps(results))
    folder = evaluate(coco, tmp_path, f"detections={given}")
    scores = json.loads((folder / "scores.json").read_text())
    require_the_same(scores, by_hand(coco, given))
    require_the_same(scores, by_hand(coco, folder / "detections.json"))
    assert 0.1 < scores["AP_coco"] < 0.9


def test_weights_of_effdet_keep_their_slots(effdet: Any, coco: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    peer = effdet.EfficientDet(
        effdet.get_efficientdet_config("tf_efficientdet_d0"), pretrained_backbone=False
    )
    torch.save(peer.state_dict(), tmp_path / "tf_efficientdet_d0.pth")
    model = efficientdet("d0", 90, image_size=128)
    report = load_weights(model, tmp_path / "tf_efficientdet_d0.pth")
    assert report.class_names == COCO_90
    weights = checkpoint(tmp_path / "d0.ckpt", spread_outputs(model, seed=2), COCO_90)
    folder = evaluate(coco, tmp_path, f"weights={weights}", "evaluate.nms=[soft]")
    require_uploadable(coco, folder / "detections.json")
