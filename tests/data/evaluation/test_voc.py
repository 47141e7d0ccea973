"""VOC's rules, by hand."""

from __future__ import annotations

from typing import Callable, List

import numpy as np
import pytest

from data.annotations import Annotations
from data.evaluation import voc
from data.evaluation.found import table
from data.evaluation.ranking import average_precision, curve

MakeTruth = Callable[..., Annotations]

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)


def ap50(truth: Annotations, rows: List[List[float]], flavour: str = "voc12") -> float:
    rule = {"voc07": voc.ap_07, "voc12": voc.ap_12}[flavour]
    return average_precision(voc.rankings(truth, table(rows), [0.5])[0], 0, rule)


def test_hit_miss_hit(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, LEFT, ""), (0, 0, RIGHT, "")])
    rows = [[0, 0, 0.9, *LEFT], [0, 0, 0.8, 20, 20, 30, 30], [0, 0, 0.7, *RIGHT]]
    recall, precision = curve(voc.rankings(truth, table(rows), [0.5])[0], 0)
    np.testing.assert_allclose(recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    assert ap50(truth, rows) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert ap50(truth, rows, "voc07") == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_a_box_found_twice_is_a_miss(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, LEFT, ""), (0, 0, RIGHT, "")])
    rows = [[0, 0, 0.9, *LEFT], [0, 0, 0.8, *LEFT], [0, 0, 0.7, *RIGHT]]
    assert ap50(truth, rows) == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_a_difficult_box_is_neither_hit_nor_miss(make_truth: MakeTruth, kind: str) -> None:
    truth = make_truth([(0, 0, LEFT, kind), (0, 0, RIGHT, "")])
    rows = [[0, 0, 0.9, *LEFT], [0, 0, 0.8, *LEFT], [0, 0, 0.7, *RIGHT]]
    assert ap50(truth, rows) == 1.0


def test_the_overlap_must_be_above_the_threshold(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, (0.0, 0.0, 10.0, 20.0), "")])
    assert ap50(truth, [[0, 0, 0.9, 0, 0, 10, 10]]) == 0.0  # IoU is 0.5 exactly
    assert ap50(truth, [[0, 0, 0.9, 0, 0, 10, 10.1]]) == 1.0


def test_equal_scores_stay_in_order(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, LEFT, "")])
    hit, miss = [0, 0, 0.5, *LEFT], [0, 0, 0.5, *RIGHT]
    assert ap50(truth, [hit, miss]) == 1.0
    assert ap50(truth, [miss, hit]) == 0.5


def test_scores_are_not_rounded(make_truth: MakeTruth) -> None:
    # Rounded to three digits, as comp4 files of others are, the miss would come first.
    truth = make_truth([(0, 0, LEFT, "")])
    assert ap50(truth, [[0, 0, 0.50001, *RIGHT], [0, 0, 0.50002, *LEFT]]) == 1.0


def test_classes_and_pictures_are_apart(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, LEFT, ""), (1, 1, LEFT, "")], images=2)
    results = voc.rankings(truth, table([[1, 0, 0.9, *LEFT], [1, 1, 0.9, *LEFT]]), [0.5])
    aps = [average_precision(result, 0, voc.ap_12) for result in results]
    assert aps == [0.0, 1.0]


def test_nothing_to_find_is_not_zero(make_truth: MakeTruth) -> None:
    truth = make_truth([(0, 0, LEFT, "difficult")])
    results = voc.rankings(truth, table([[0, 1, 0.9, *LEFT]]), [0.5])
    assert all(np.isnan(average_precision(result, 0, voc.ap_07)) for result in results)


def test_nothing_found_is_zero(make_truth: MakeTruth) -> None:
    assert ap50(make_truth([(0, 0, LEFT, "")]), []) == 0.0


def test_iou_with_and_without_plus_one() -> None:
    box, others = np.array([0.0, 0.0, 9.0, 9.0]), np.array([[5.0, 0.0, 9.0, 9.0]])
    assert voc.iou(box, others)[0] == pytest.approx(4 * 9 / 81)
    assert voc.iou(box, others, plus_one=True)[0] == pytest.approx(5 * 10 / 100)
    assert voc.iou(box, np.array([[3.0, 3.0, 3.0, 3.0]]))[0] == 0.0
