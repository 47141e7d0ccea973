"""faster-coco-eval is pycocotools, sooner."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

from data.annotations import Annotations, BoxList, pack
from data.coco import read_coco
from data.evaluation import coco
from data.evaluation.found import Found, table
from data.evaluation.stored import read_detections

PICTURES, CLASSES = 12, 3


def random_case(seed: int) -> Tuple[Annotations, Found]:
    """Small and large boxes, crowds, difficult ones, equal scores, more than 100 in a picture."""
    random = np.random.default_rng(seed)
    lists: List[BoxList] = []
    rows: List[List[float]] = []
    for place in range(PICTURES):
        count = int(random.integers(0, 7))
        corners = random.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 150, (count, 2))], axis=1)
        labels = random.integers(CLASSES, size=count)
        kinds = random.integers(0, 6, size=count)  # 0 difficult, 1 crowd
        lists.append(
            BoxList(
                f"{place}.jpg",
                int(random.integers(1, 1000)) * PICTURES + place,
                (400, 400),
                [tuple(box) for box in boxes.tolist()],
                labels.tolist(),
                (kinds == 0).tolist(),
                (kinds == 1).tolist(),
                [],
            )
        )
        found = 130 if place == 3 else int(random.integers(0, 12))
        for number in range(found):
            score = float(random.integers(0, 8)) / 8  # many are equal
            label = float(random.integers(CLASSES))
            if count and number % 2:
                near = int(random.integers(count))
                box, label = boxes[near] + random.normal(0, 5, 4), float(labels[near])
            else:
                start = random.uniform(0, 200, 2)
                box = np.concatenate([start, start + random.uniform(5, 150, 2)])
            rows.append([place, label, score, *box.tolist()])
    return pack(lists, list("abc")), table(rows)


def require_equal(truth: Annotations, found: Found) -> None:
    theirs, faster = (coco.evaluate(truth, found, backend) for backend in coco.BACKENDS)
    for name, value in theirs.statistics.items():
        np.testing.assert_allclose(faster.statistics[name], value, rtol=0, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(faster.class_ap, theirs.class_ap, rtol=0, atol=1e-12)
    np.testing.assert_allclose(faster.class_ap50, theirs.class_ap50, rtol=0, atol=1e-12)
    for one, other in zip(faster.rankings, theirs.rankings):  # what intervals are made from
        for mine, wanted in zip(vars(one).values(), vars(other).values()):
            np.testing.assert_array_equal(mine, wanted)


@pytest.mark.parametrize("seed", range(8))
def test_both_judges_agree_on_generated_cases(seed: int) -> None:
    pytest.importorskip("faster_coco_eval")
    truth, found = random_case(seed)
    assert truth.crowd.any()
    assert truth.difficult.any()
    require_equal(truth, found)


def test_both_judges_agree_on_real_detections(shared_data: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    splits, _, ids = read_coco(shared_data / "coco", {"val": ["val2017"]})
    folder = shared_data / "metrics_ref" / "yolox_coco_val"
    require_equal(splits["val"], read_detections(folder, splits["val"], ids).found)


def test_both_judges_agree_on_nothing() -> None:
    pytest.importorskip("faster_coco_eval")
    truth, _ = random_case(0)
    require_equal(truth, table([]))


def test_a_judge_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    truth, found = random_case(0)
    with pytest.raises(RuntimeError, match=r"Python 3\.10 and pip install faster-coco-eval"):
        coco.evaluate(truth, found, "faster-coco-eval")
    with pytest.raises(ValueError, match="one of pycocotools, faster-coco-eval, got 'fast'"):
        coco.evaluate(truth, found, "fast")
