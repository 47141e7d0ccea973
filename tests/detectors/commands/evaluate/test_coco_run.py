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
from typing import Any, Dict, List

import pytest
import torch

import infer
import train
from detectors import efficientdet
from detectors.__main__ import main
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.weights import save
from detectors.weights.coco_names import COCO_90

STATISTICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
STATISTICS += ["AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
BOTH = ("detections.json", "detections_soft.json")


@pytest.fixture
def coco(shared_data: Path) -> Path:
    """COCO's mini set; skipped where it or its judge is not there."""
    pytest.importorskip("pycocotools")
    return shared_data / "coco"


def truth_file(coco: Path) -> Path:
    return coco / "annotations" / "instances_val2017.json"


def words_of(coco: Path, runs: Path) -> List[str]:
    """Of an evaluation on val2017 by COCO's rules, at 128 pixels."""
    data = ["data.format=coco", f"data.root={coco}", "data.val=[val2017]", "data.workers=0"]
    judge = ["evaluate.flavours=[coco]", "evaluate.metric=AP_coco", "evaluate.resamples=0"]
    rest = ["image.size=128", f"run.root={runs}", "device=cpu"]
    return [*data, *judge, *rest]


def evaluate(coco: Path, runs: Path, *words: str) -> Path:
    """`python -m detectors evaluate`; returns its folder."""
    assert main(["evaluate", "recipe=generated", *words_of(coco, runs), *words]) == 0
    return runs / "evaluate" / "generated" / "1"


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


def require_both(coco: Path, folder: Path) -> Dict[str, Any]:
    """Files and scores of a hard and a soft NMS; returns `scores.json`."""
    scores: Dict[str, Any] = json.loads((folder / "scores.json").read_text())
    for file, theirs in zip(BOTH, (scores, scores["other_nms"]["soft"])):
        require_uploadable(coco, folder / file)
        require_the_same(theirs, by_hand(coco, folder / file))
    return scores


def test_a_model_of_the_eighty_categories_writes_official_ids(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in COCO_90 if name]
    torch.manual_seed(1)
    model = spread_outputs(efficientdet("d0", 80, image_size=128), seed=1)
    bias = model.get_parameter("network.class_head.predict.pointwise.bias")
    with torch.no_grad():  # persons and toothbrushes everywhere: some are hit
        bias.view(-1, 80)[:, [0, 79]] += 3
    weights = save(model, tmp_path / "d0.ckpt", classes=names)
    folder = evaluate(coco, tmp_path, f"weights={weights}", "evaluate.nms=[hard,soft]")
    scores = require_both(coco, folder)
    for file in BOTH:
        entries = json.loads((folder / file).read_text())
        assert {one["category_id"] for one in entries} >= {1, 90}
    assert 0 < scores["AP_coco"] != scores["other_nms"]["soft"]["AP_coco"] > 0
    shown = capsys.readouterr().out
    assert "AP_coco (hard NMS)" in shown
    assert "AP_coco (soft NMS)" in shown
    assert "efficientdet-d0 128x128 · 80 classes" in shown


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


EFFDET = ["recipe=bccd_d0", "model.pyramid.scale=null", "data.train=[train2017]"]


def test_weights_in_effdets_names_keep_their_slots(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(2)
    model = spread_outputs(efficientdet("d0", 90, image_size=128), seed=2)
    weights = save(model, tmp_path / "tf_efficientdet_d0.pth", layout="effdet")
    words = [*words_of(coco, tmp_path), *EFFDET, f"weights={weights}", "evaluate.nms=[soft]"]
    assert train.main(["task=evaluate", *words, "data.labels=ids"]) == 0
    folder = tmp_path / "evaluate" / "bccd_d0" / "1"
    require_uploadable(coco, folder / "detections.json")
    scores = json.loads((folder / "scores.json").read_text())
    require_the_same(scores, by_hand(coco, folder / "detections.json"))
    assert scores["nms"] == "soft"
    assert "90 classes" in capsys.readouterr().out

    assert train.main(["task=evaluate", *words]) == 2
    shown = capsys.readouterr().err
    assert "checkpoint: 90 classes (person … toothbrush); data: 80 (person … toothbrush)" in shown
    assert "to map: data.labels=ids" in shown


def test_a_training_of_ninety_slots_goes_through_everything(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained for two steps on a canvas that is no square; scored, evaluated again, shown."""
    words = [*words_of(coco, tmp_path), *EFFDET, "data.labels=ids", "image.size=[64,128]"]
    words += ["evaluate.nms=[hard,soft]", "data.max_boxes=100"]
    steps = ["trainer.max_steps=2", "micro_batch_size=2", "optim.warmup_steps=1"]
    assert train.main([*words, *steps]) == 0
    shown = capsys.readouterr().out
    assert "80 classes in 90 slots" in shown
    assert "AP_coco (hard NMS)" in shown
    assert "AP_coco (soft NMS)" in shown
    run = tmp_path / "bccd_d0" / "1"
    scores = require_both(coco, run)

    assert main(["evaluate", f"weights={run}", f"run.root={tmp_path / 'again'}"]) == 0
    assert "efficientdet-d0 64x128 · 90 classes" in capsys.readouterr().out
    again = json.loads((tmp_path / "again/evaluate/bccd_d0/1/scores.json").read_text())
    assert {key: again[key] for key in again if "coco" in key} == {
        key: scores[key] for key in scores if "coco" in key
    }
    assert again["other_nms"] == scores["other_nms"]

    pictures = sorted((coco / "val2017").glob("*.jpg"))[:2]
    out = ["--out", str(tmp_path / "out"), "--score", "0.001", "--format", "json,coco"]
    assert infer.main([str(run / "best.ckpt"), *map(str, pictures), *out]) == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert found["image_size"] == [64, 128]
    names = {one["label"] for image in found["images"] for one in image["detections"]}
    assert names
    assert names <= {name for name in COCO_90 if name} | set(found["classes"])
