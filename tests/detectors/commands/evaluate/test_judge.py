"""Detections in the network's input become scores of pictures on disk."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import pytest
import torch
import torch.distributed as distributed

from data.annotations import Annotations, BoxList, pack
from data.collate import Placement
from detectors.commands.evaluate.judge import Judge
from detectors.experiment.meeting_point import MeetingPoint
from detectors.experiment.processes import Processes
from detectors.postprocess import Detections

Row = Tuple[Tuple[float, float, float, float], float, int]
HALF = 0.5  # the network sees pictures at half their size


@pytest.fixture
def truth() -> Annotations:
    """A cat in each of three pictures of 200 x 100; a dog in the first; horses nowhere."""
    lists = [
        BoxList(
            f"{number}.jpg",
            number,
            (100, 200),
            [(20.0, 20.0, 80.0, 60.0)] + [(100.0, 20.0, 180.0, 80.0)] * (number == 1),
            [0] + [1] * (number == 1),
            [False] * (2 if number == 1 else 1),
            [False] * (2 if number == 1 else 1),
            [],
        )
        for number in (1, 2, 3)
    ]
    return pack(lists, ["cat", "dog", "horse"])


CAT: Row = ((10.0, 10.0, 40.0, 30.0), 0.9, 0)
DOG: Row = ((50.0, 10.0, 90.0, 40.0), 0.8, 1)


def detections(*images: Sequence[Row]) -> Detections:
    """Padded to five places with what must not count."""
    boxes = torch.zeros(len(images), 5, 4)
    scores = torch.ones(len(images), 5)
    labels = torch.full((len(images), 5), -1, dtype=torch.int32)
    for image, rows in enumerate(images):
        for place, (box, score, label) in enumerate(rows):
            boxes[image, place] = torch.tensor(box)
            scores[image, place] = score
            labels[image, place] = label
    count = torch.tensor([len(rows) for rows in images], dtype=torch.int32)
    return Detections(boxes, scores, labels, count)


def placements(*numbers: int) -> List[Placement]:
    return [Placement(f"{number}.jpg", number, (100, 200), HALF) for number in numbers]


def test_a_perfect_detector_scores_one(truth: Annotations) -> None:
    judge = Judge(truth)
    judge.add(detections([CAT, DOG], [CAT]), placements(1, 2))
    judge.add(detections([CAT]), placements(3))
    values = judge.finish(100)
    assert values["AP50_voc07"] == values["AP_voc12"] == 1.0
    assert values["class/cat/AP50_voc07"] == 1.0
    assert all(key.endswith(("_voc07", "_voc12")) for key in values)
    assert not any("horse" in key for key in values)  # nothing to find
    assert judge.judged is not None
    assert judge.judged.found.boxes[0].tolist() == [20.0, 20.0, 80.0, 60.0]


def test_evaluations_do_not_mix(truth: Annotations) -> None:
    judge = Judge(truth)
    judge.add(detections([CAT, DOG], [CAT], [CAT]), placements(1, 2, 3))
    judge.finish(1)
    judge.add(detections([DOG], [], []), placements(1, 2, 3))
    values = judge.finish(2)
    assert (values["class/cat/AP50_voc07"], values["class/dog/AP50_voc07"]) == (0.0, 1.0)
    with pytest.raises(RuntimeError, match="no picture was judged"):
        judge.finish(3)


def test_the_order_of_batches_does_not_matter(truth: Annotations) -> None:
    one, other = Judge(truth), Judge(truth)
    one.add(detections([CAT, DOG], [CAT], [DOG]), placements(1, 2, 3))
    other.add(detections([DOG], [CAT]), placements(3, 2))
    other.add(detections([CAT, DOG], [DOG]), placements(1, 3))  # the third again: the first counts
    assert one.finish() == other.finish()


def test_only_what_came_is_judged(truth: Annotations, tmp_path: Path) -> None:
    judge = Judge(truth)
    judge.add(detections([CAT]), placements(2))
    assert judge.finish(5)["AP50_voc12"] == 1.0  # of 1 cat, not of 3 and a dog
    judge.write(tmp_path, judge.score(), {})
    written = json.loads((tmp_path / "scores.json").read_text())
    assert (written["images"], written["images_of_dataset"], written["step"]) == (1, 3, 5)


def test_scores_are_exact_and_ties_survive(truth: Annotations, tmp_path: Path) -> None:
    judge = Judge(truth)
    near = (CAT[0], float(torch.nextafter(torch.tensor(0.9), torch.tensor(1.0))), 0)
    judge.add(detections([near, CAT]), placements(1))
    judge.finish()
    judge.write(tmp_path, judge.score(), {})
    scores = [one["score"] for one in json.loads((tmp_path / "detections.json").read_text())]
    assert scores == [0.90000004, 0.9]  # the shortest decimals of two neighbouring float32


def test_half_precision_is_taken(truth: Annotations) -> None:
    judge = Judge(truth)
    boxes, scores, labels, count = detections([CAT])
    judge.add(Detections(boxes.half(), scores.half(), labels, count), placements(2))
    assert judge.finish()["AP50_voc07"] == 1.0


def test_cocos_judge_waits_for_the_end_unless_it_decides(truth: Annotations) -> None:
    pytest.importorskip("pycocotools")
    flavours = ["voc07", "voc12", "coco"]
    assert Judge(truth, flavours=flavours).quick_flavours == ["voc07", "voc12"]
    assert Judge(truth, flavours=flavours, metric="AP_coco").quick_flavours == flavours
    alone = Judge(truth, flavours=["coco"], metric="AP_coco", category_ids=[17, 18, 19])
    alone.add(detections([CAT]), placements(2))
    values = alone.finish()
    assert values["AP_coco"] == pytest.approx(1.0)
    assert values["class/cat/AP_coco"] == pytest.approx(1.0)
    assert alone.score(resamples=5).values["AP_coco"].low == pytest.approx(1.0)


def test_a_detector_of_more_classes(truth: Annotations) -> None:
    names = ["horse", "car", "dog", None, "cat"]
    judge = Judge(truth, model_classes=names)
    found = [(CAT[0], 0.9, 4), (DOG[0], 0.8, 2), (DOG[0], 0.7, 1)]
    judge.add(detections(found), placements(1))
    assert judge.finish()["AP50_voc07"] == 1.0
    assert judge.judged is not None
    assert judge.judged.left_out == 1  # the car
    with pytest.raises(ValueError, match="horse can never be found"):
        Judge(truth, model_classes=["cat", "dog"])


def test_the_fingerprint_is_of_what_can_be_found(truth: Annotations) -> None:
    same = Judge(replace(truth, class_names=("cat", "dog"))).fingerprint()
    assert Judge(truth).fingerprint() == same  # without horses
    assert Judge(truth.take([0, 1])).fingerprint() != same


def test_mistakes_are_named(truth: Annotations) -> None:
    judge = Judge(truth)
    with pytest.raises(ValueError, match=r"image 9 \('9\.jpg'\) is not among the dataset's 3"):
        judge.add(detections([CAT]), placements(9))
    with pytest.raises(ValueError, match=r"'1\.jpg' have labels 0 to 3, there are 3 classes"):
        judge.add(detections([CAT, (DOG[0], 0.5, 3)]), placements(1))
    with pytest.raises(ValueError, match="boxes that are not finite"):
        judge.add(detections([((float("nan"),) * 4, 0.5, 1)]), placements(1))
    with pytest.raises(ValueError, match=r"one of AP50_voc07, .*'AP_coco'"):
        Judge(truth, metric="AP_coco")
    with pytest.raises(ValueError, match="some of voc07, voc12, coco"):
        Judge(truth, flavours=["voc2007"])


def test_two_processes_share_the_pictures_and_the_first_scores_them(truth: Annotations) -> None:
    point = MeetingPoint(distributed.HashStore())  # type: ignore[attr-defined]  # torch's C++

    def judge(rank: int) -> Tuple[Dict[str, float], bool]:
        judge = Judge(truth, processes=Processes(rank, 2, point=point))
        if rank == 0:
            judge.add(detections([CAT, DOG], [CAT]), placements(1, 3))
        else:  # the first picture came to both, so that both had as many
            judge.add(detections([CAT], []), placements(2, 1))
        return judge.finish(7), judge.judged is not None

    with ThreadPoolExecutor(2) as pool:
        (first, scored), (second, also) = pool.map(judge, range(2))
    alone = Judge(truth)
    alone.add(detections([CAT, DOG], [CAT], [CAT]), placements(1, 2, 3))
    assert first == second == alone.finish(7)
    assert (scored, also) == (True, False)
