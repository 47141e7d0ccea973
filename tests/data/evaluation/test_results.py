"""Files of detections as other programs expect them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import pytest

from data.annotations import Annotations, BoxList, pack
from data.evaluation.found import Found, rounded, table
from data.evaluation.results import comp4_names, write_results
from data.evaluation.scores import evaluate
from data.evaluation.stored import read_detections

MakeTruth = Callable[..., Annotations]
BOX = (10.0, 20.0, 50.0, 80.0)


def named(*names: str) -> Annotations:
    lists = [BoxList(n, i, (1, 1), [], [], [], [], []) for i, n in enumerate(names)]
    return pack(lists, ["a"])


def test_coco_results_have_the_datasets_own_ids(make_truth: MakeTruth, tmp_path: Path) -> None:
    truth = make_truth([(0, 1, BOX, "")], images=2)  # ids 20 and 10
    write_results(tmp_path, truth, table([[1, 1, 0.123456789, *BOX]]), [18, 44])
    results = json.loads((tmp_path / "detections.json").read_text())
    assert results == [
        {"image_id": 10, "category_id": 44, "bbox": [10.0, 20.0, 40.0, 60.0], "score": 0.123456789}
    ]


def test_pycocotools_loads_them(make_truth: MakeTruth, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    truth = make_truth([(0, 1, BOX, "")], images=3)
    write_results(tmp_path, truth, table([[1, 1, 0.5, *BOX]]), [18, 44])
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO(str(tmp_path / "detections_images.json")).loadRes(
            str(tmp_path / "detections.json")
        )
    assert sorted(loaded.imgs) == [10, 20, 30]  # those without a detection too
    assert loaded.cats[44]["name"] == "b"
    assert [one["image_id"] for one in loaded.loadAnns(loaded.getAnnIds())] == [20]


def test_comp4_adds_one_to_the_minima_alone(make_truth: MakeTruth, tmp_path: Path) -> None:
    # The whole of a 100 x 100 picture is 0..100 here and 1..100, both included, in VOC.
    truth = make_truth([(0, 0, BOX, "")])
    write_results(tmp_path, truth, table([[0, 0, 0.5, 0.0, 0.0, 100.0, 100.0]]), [1, 2])
    text = (tmp_path / "comp4_det_test_a.txt").read_text()
    assert text == "0 0.5 1.000 1.000 100.000 100.000\n"
    assert (tmp_path / "comp4_det_test_b.txt").read_text() == ""  # the devkit opens every class


def test_comp4_names_pictures_as_vocs_lists_do() -> None:
    assert comp4_names(named("VOC2007/JPEGImages/000001.jpg", "VOC2012/JPEGImages/2008_1.jpg")) == [
        "000001",
        "2008_1",
    ]
    assert comp4_names(named("a/1.jpg", "b/1.jpg")) == ["a/1", "b/1"]
    assert comp4_names(named("a/1.jpg", "a/1.png")) == ["a/1.jpg", "a/1.png"]
    assert comp4_names(named("a b.jpg")) == ["a%20b"]  # lines are split at spaces


def test_what_was_scored_comes_back_bit_for_bit(make_truth: MakeTruth, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 900, (500, 2))
    boxes = rounded(np.concatenate([corners, corners + random.uniform(0, 90, (500, 2))], axis=1))
    found = Found(
        np.sort(random.integers(3, size=500)),
        random.integers(2, size=500),
        random.uniform(0, 1, 500),
        boxes,
    )
    truth = make_truth([(0, 0, BOX, ""), (1, 1, BOX, "")], images=3)
    write_results(tmp_path, truth, found, [3, 7])
    back = read_detections(tmp_path, truth, [3, 7]).found
    for one, other in zip(vars(found).values(), vars(back).values()):
        assert one.tobytes() == other.tobytes()


def devkit_ap(folder: Path, name: str, truth: Dict[str, List[Tuple[float, ...]]]) -> float:
    """VOCdevkit's rules on a comp4 file: inclusive pixels from 1, sides max - min + 1, 11 points.

    Written from the challenge's description, apart from the code under test.
    """
    text = (folder / f"comp4_det_test_{name}.txt").read_text()
    lines = [line.split() for line in text.splitlines()]
    lines.sort(key=lambda line: -float(line[1]))
    taken = {image: [False] * len(boxes) for image, boxes in truth.items()}
    hits = []
    for image, _, *corners in lines:
        x1, y1, x2, y2 = (float(value) for value in corners)
        best, which = 0.0, -1
        for number, (a1, b1, a2, b2) in enumerate(truth[image]):
            wide = min(x2, a2) - max(x1, a1) + 1
            high = min(y2, b2) - max(y1, b1) + 1
            if wide > 0 and high > 0:
                both = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
                overlap = wide * high / (both - wide * high)
                if overlap > best:
                    best, which = overlap, number
        hit = best > 0.5 and not taken[image][which]
        if hit:
            taken[image][which] = True
        hits.append(hit)
    wanted = sum(len(boxes) for boxes in truth.values())
    curve = [(sum(hits[: n + 1]) / wanted, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    points = (point / 10 for point in range(11))
    return sum(max((p for r, p in curve if r >= point), default=0.0) for point in points) / 11


def test_a_devkit_style_scorer_agrees(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    lists, rows = [], []
    inclusive: Dict[str, List[Tuple[float, ...]]] = {}
    for place in range(12):
        x1, y1 = random.integers(0, 60, 2).tolist()
        box = (float(x1), float(y1), float(x1 + 30), float(y1 + 24))
        lists.append(
            BoxList(f"{place}.jpg", place + 1, (120, 120), [box], [0], [False], [False], [])
        )
        inclusive[str(place)] = [(box[0] + 1, box[1] + 1, box[2], box[3])]
        for _ in range(3):
            shift = np.round(random.normal(0, 6, 4), 3)
            rows.append([place, 0, random.uniform(), *(np.array(box) + shift)])
    truth = pack(lists, ["thing"])
    found = table(rows)
    write_results(tmp_path, truth, found, [1])
    ours = evaluate(truth, found, ["voc07"], resamples=0).values["AP50_voc07"].value
    assert 0.2 < ours < 0.9
    assert devkit_ap(tmp_path, "thing", inclusive) == pytest.approx(ours, abs=1e-12)


def test_no_unfinished_file_is_left(make_truth: MakeTruth, tmp_path: Path) -> None:
    write_results(tmp_path, make_truth([(0, 0, BOX, "")]), table([]), [1, 2])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comp4_det_test_a.txt",
        "comp4_det_test_b.txt",
        "detections.json",
        "detections_images.json",
    ]
