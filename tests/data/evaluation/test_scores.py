"""All metrics at once, each under its own name."""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, List

import numpy as np
import pytest

from data.annotations import Annotations
from data.evaluation import coco
from data.evaluation.found import Found, checked, table
from data.evaluation.scores import compare, evaluate, keys

MakeTruth = Callable[..., Annotations]
BOX = (10.0, 10.0, 50.0, 50.0)


@pytest.fixture
def truth(make_truth: MakeTruth) -> Annotations:
    """Class a in four pictures of six, class b in two; class c nowhere."""
    rows = [(place, 0, BOX, "") for place in range(4)] + [(place, 1, BOX, "") for place in (4, 5)]
    return make_truth(rows, images=6, classes="abc")


@pytest.fixture
def found() -> Found:
    """All of a; one of b, one pixel off."""
    rows: List[List[float]] = [[place, 0, 0.9 - place / 10, *BOX] for place in range(4)]
    return table([*rows, [4, 1, 0.5, 11.0, 10.0, 51.0, 50.0]])


def test_every_key_says_its_flavour(truth: Annotations, found: Found) -> None:
    scores = evaluate(truth, found, resamples=20)
    assert all(key.endswith(("_voc07", "_voc12", "_coco")) for key in scores.values)
    assert next(iter(scores.values)) == "AP50_voc07"
    assert all(
        key.endswith(("_voc07", "_voc12", "_coco")) for row in scores.classes for key in row.values
    )


def test_values_by_hand(truth: Annotations, found: Found) -> None:
    scores = evaluate(truth, found, resamples=0)
    values = {key: interval.value for key, interval in scores.values.items()}
    # a is perfect; of b one of two is found: recall 0.5 at precision 1.
    assert values["AP50_voc07"] == pytest.approx((1 + 6 / 11) / 2)
    assert values["AP50_voc12"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["AP50_coco"] == pytest.approx((1 + 51 / 101) / 2)
    # One pixel off: IoU 39 / 41 = 0.951, above all ten thresholds.
    assert values["AP_voc07"] == pytest.approx(values["AP50_voc07"])
    assert values["AR100_coco"] == pytest.approx((1 + 1 / 2) / 2)
    assert np.isnan(values["APs_coco"])  # 40 px: medium


def test_classes_are_told_apart(truth: Annotations, found: Found) -> None:
    a, b, c = evaluate(truth, found, resamples=50).classes
    assert (a.name, a.images, a.boxes, a.precision, a.recall) == ("a", 4, 4, 1.0, 1.0)
    assert (b.images, b.boxes, b.precision, b.recall) == (2, 2, 1.0, 0.5)
    assert b.values["AP50_voc12"][0] == pytest.approx(0.5)
    assert b.values["AP50_voc12"].low < 0.1
    assert b.values["AP50_voc12"].high > 0.9
    assert c.boxes == 0
    assert np.isnan(c.values["AP50_voc07"].value)


def test_json_holds_fractions_and_no_nan(truth: Annotations, found: Found) -> None:
    content: Any = json.loads(json.dumps(evaluate(truth, found).as_json(), allow_nan=False))
    assert content["AP50_voc12"] == pytest.approx(0.75)
    assert content["AP50_voc12_low"] <= 0.75 <= content["AP50_voc12_high"]
    assert content["classes"]["b"]["AP50_voc12"] == pytest.approx(0.5)
    assert content["classes"]["c"]["AP50_voc12"] is None
    assert "resampled 300 times" in content["note"]


def test_the_table_is_in_percent(truth: Annotations, found: Found) -> None:
    head, rows = evaluate(truth, found, ["voc12"], resamples=0).table()
    assert head == ["class", "images", "boxes", "P", "R", "AP50_voc12"]
    assert rows[0] == ["all", "", "6", "100.0", "75.0", "75.0"]
    assert rows[3] == ["c", "0", "0", "-", "-", "-"]


def test_difficult_boxes_are_not_asked_for_by_coco_either(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, BOX, "difficult"), (0, 0, (60.0, 60.0, 90.0, 90.0), "")])
    rows = [[0, 0, 0.9, *BOX], [0, 0, 0.8, 60.0, 60.0, 90.0, 90.0]]
    assert coco.evaluate(truth, table(rows)).statistics["AP"] == pytest.approx(1.0)


def test_coco_takes_no_detections_at_all(truth: Annotations) -> None:
    assert coco.evaluate(truth, table([])).statistics["AP"] == 0.0


def test_a_perfect_detector_beats_half_a_one(truth: Annotations) -> None:
    rows: List[List[float]] = [
        [int(image), int(label), 0.9, *box]
        for image, label, box in zip(truth.images, truth.labels, truth.boxes.tolist())
    ]
    worse = [row for row in rows if row[0] % 2]
    better = compare(truth, table(rows), table(worse))
    assert list(better) == ["AP50_voc07", "AP50_voc12", "AP_coco"]
    assert better["AP50_voc12"].value == pytest.approx(0.5)
    assert all(interval.low > 0 for interval in better.values())
    same = compare(truth, table(rows), table(rows), ["voc07"])
    assert same["AP50_voc07"] == (0.0, 0.0, 0.0)


def test_what_cannot_be_judged_is_refused(truth: Annotations) -> None:
    with pytest.raises(ValueError, match="labels 3 to 3, but the dataset has 3 classes"):
        checked(table([[0, 3, 0.5, *BOX]]), truth)
    with pytest.raises(ValueError, match="scores that are not finite"):
        checked(table([[0, 0, float("nan"), *BOX]]), truth)


def test_the_keys_are_known_before(truth: Annotations, found: Found) -> None:
    for flavours in (["voc07"], ["voc12", "coco"], ["voc07", "voc12", "coco"]):
        assert keys(flavours) == list(evaluate(truth, found, flavours, resamples=0).values)


def test_flavours_have_names(truth: Annotations, found: Found) -> None:
    with pytest.raises(ValueError, match="some of voc07, voc12, coco"):
        evaluate(truth, found, ["voc"])


def test_a_missing_judge_is_said(
    truth: Annotations, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(RuntimeError, match='pip install "pycocotools'):
        evaluate(truth, found, ["coco"])
    assert evaluate(truth, found, ["voc07"], resamples=0).values  # VOC's needs nobody
