"""What NMS promises, with values a reader can check, on every implementation."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops.nms import Detections

Nms = Callable[..., Detections]
Shape = Tuple[int, ...]

# Graphcore's published vectors: two groups of overlapping unit squares and one alone.
CORNERS = [(0, 0), (0, 0.1), (0, -0.1), (0, 10), (0, 10.1), (0, 100)]
BOXES = torch.tensor([[[x, y, x + 1, y + 1] for x, y in CORNERS]])
SCORES = torch.tensor([[0.9, 0.75, 0.6, 0.95, 0.5, 0.3]])
NAN, INF = float("nan"), float("inf")


def squares(*corners: float, side: float = 10.0) -> Tensor:
    """One image of squares on a line: (1, N, 4)."""
    return torch.tensor([[[x, 0.0, x + side, side] for x in corners]])


@pytest.mark.parametrize(
    ("settings", "indices", "scores"),
    [
        ({"max_detections": 3}, [3, 0, 5], [0.95, 0.9, 0.3]),
        ({"max_detections": 5}, [3, 0, 5, -1, -1], [0.95, 0.9, 0.3, 0, 0]),
        ({"max_detections": 5, "score_threshold": 0.5}, [3, 0, -1, -1, -1], [0.95, 0.9, 0, 0, 0]),
    ],
)
def test_nms_gives_the_published_vectors(
    any_nms: Nms, settings: Dict[str, Any], indices: List[int], scores: List[float]
) -> None:
    found = any_nms(SCORES.repeat(2, 1), BOXES.repeat(2, 1, 1), **settings)
    count = sum(index >= 0 for index in indices)
    assert found.indices.tolist() == [indices, indices]
    assert found.count.tolist() == [count, count]
    torch.testing.assert_close(found.scores, torch.tensor([scores, scores]))
    kept = [i for i in indices if i >= 0]
    assert torch.equal(found.boxes[0, :count], BOXES[0, kept])
    assert not found.boxes[:, count:].any()
    assert (found.labels[:, :count] == 0).all()
    assert (found.labels[:, count:] == -1).all()


def test_nms_returns_fixed_shapes_and_dtypes(any_nms: Nms) -> None:
    found = any_nms(torch.rand(2, 3), torch.rand(2, 3, 4), max_detections=7)
    assert [tuple(t.shape) for t in found] == [(2, 7, 4), (2, 7), (2, 7), (2, 7), (2,)]
    floats, ints = [torch.float32] * 2, [torch.int32] * 3
    assert [t.dtype for t in found] == floats + ints


def test_nms_keeps_a_box_exactly_at_the_iou_threshold(any_nms: Nms) -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 2]]])  # IoU is 8 / 16
    scores = torch.tensor([[0.9, 0.8]])
    assert any_nms(scores, boxes, iou_threshold=0.5).count.tolist() == [2]
    assert any_nms(scores, boxes, iou_threshold=0.4999).count.tolist() == [1]


def test_nms_drops_a_score_exactly_at_the_threshold(any_nms: Nms) -> None:
    scores = torch.tensor([[0.4, 0.4000001, 0.0]])
    found = any_nms(scores, squares(0, 20, 40), score_threshold=0.4)
    assert found.indices[0, :2].tolist() == [1, -1]
    assert any_nms(scores, squares(0, 20, 40)).count.tolist() == [2]  # 0 is not above 0


def test_nms_breaks_ties_by_index(any_nms: Nms) -> None:
    scores = torch.tensor([[0.5, 0.7, 0.5, 0.7, 0.5]])
    found = any_nms(scores, squares(0, 20, 40, 60, 80), max_detections=5)
    assert found.indices.tolist() == [[1, 3, 0, 2, 4]]


def test_nms_takes_both_zeros_as_a_tie(any_nms: Nms) -> None:
    scores = torch.tensor([[-0.0, 0.0, -0.0]])
    found = any_nms(scores, squares(0, 20, 40), score_threshold=-1.0, max_detections=3)
    assert found.indices.tolist() == [[0, 1, 2]]


def test_nms_of_one_class_leaves_the_other_alone(any_nms: Nms) -> None:
    scores, boxes = torch.tensor([[0.9, 0.8, 0.7]]), squares(0, 0, 1)
    labels = torch.tensor([[4, 7, 4]])
    found = any_nms(scores, boxes, labels, max_detections=3)
    assert found.indices.tolist() == [[0, 1, -1]]
    assert found.labels.tolist() == [[4, 7, -1]]
    agnostic = any_nms(scores, boxes, labels, max_detections=3, class_aware=False)
    assert agnostic.labels.tolist() == [[4, -1, -1]]


def test_nms_takes_any_integer_as_a_label(any_nms: Nms) -> None:
    labels = torch.tensor([[2_000_000_000, -5, 2_000_000_000]])
    found = any_nms(torch.tensor([[0.9, 0.8, 0.7]]), squares(0, 0, 0), labels, max_detections=3)
    assert found.labels.tolist() == [[2_000_000_000, -5, -1]]


def test_nms_of_scores_per_class_says_row_and_column(any_nms: Nms) -> None:
    scores = torch.tensor([[[0.1, 0.9, 0.3], [0.8, 0.2, 0.3]]])  # two boxes, three classes
    found = any_nms(scores, squares(0, 1), score_threshold=0.15, max_detections=6)
    assert found.labels.tolist() == [[1, 0, 2, -1, -1, -1]]  # 0.2 and the second 0.3 lose
    assert found.indices.tolist() == [[0, 1, 0, -1, -1, -1]]
    torch.testing.assert_close(found.scores[0, :3], torch.tensor([0.9, 0.8, 0.3]))


def test_nms_treats_every_image_on_its_own(any_nms: Nms) -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.8, 0.7], [0.1, 0.6, 0.0]])  # the first is empty
    boxes = torch.cat([squares(0, 0, 0), squares(0, 20, 40), squares(0, 1, 2)])
    found = any_nms(scores, boxes, max_detections=3)
    assert found.count.tolist() == [0, 3, 1]
    assert found.indices.tolist() == [[-1, -1, -1], [0, 1, 2], [1, -1, -1]]


def test_nms_of_padding_only_is_padding(any_nms: Nms) -> None:
    found = any_nms(torch.zeros(2, 4), torch.zeros(2, 4, 4), torch.full((2, 4), -1))
    assert found.count.tolist() == [0, 0]
    assert (found.indices == -1).all()
    assert (found.labels == -1).all()
    assert not found.scores.any()


def test_nms_pads_when_more_rows_are_asked_for_than_there_are_boxes(any_nms: Nms) -> None:
    found = any_nms(torch.tensor([[0.5, 0.6]]), squares(0, 20), max_detections=4)
    assert found.indices.tolist() == [[1, 0, -1, -1]]


def test_nms_never_keeps_a_nan_score(any_nms: Nms) -> None:
    found = any_nms(torch.tensor([[NAN, 0.5, INF]]), squares(0, 20, 40), max_detections=3)
    assert found.indices.tolist() == [[2, 1, -1]]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([NAN, 0, 10, 10], id="nan"),
        pytest.param([0, 0, INF, 10], id="infinite"),
        pytest.param([-INF, -INF, INF, INF], id="everything"),
        pytest.param([5, 5, 5, 5], id="point"),
        pytest.param([0, 5, 10, 5], id="line"),
        pytest.param([10, 10, 0, 0], id="both sides reversed"),
        pytest.param([10, 0, 0, 10], id="one side reversed"),
        pytest.param([3e38, 0, -3e38, 3e38], id="reversed and huge"),
    ],
)
def test_nms_lets_an_odd_box_overlap_nothing(any_nms: Nms, odd: List[float]) -> None:
    # Reversed boxes have negative unions: "intersection > threshold * union" would drop their
    # neighbours, the division does not.
    boxes = torch.tensor([[odd, [0, 0, 10, 10], odd, [0, 0, 10, 9]]], dtype=torch.float32)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    found = any_nms(scores, boxes, max_detections=4)
    assert found.indices.tolist() == [[0, 1, 2, -1]]  # only the last one goes, dropped by box 1


@pytest.mark.parametrize("size", [300.0, 1e4, 1e18, 1e19, 1e20, 1e30, 1e38])
def test_nms_does_not_overflow_at_any_size(any_nms: Nms, size: float) -> None:
    # Graphcore's operator lost boxes over 256 px in half; in float32 areas overflow from 1.8e19 px.
    boxes = torch.tensor([[[0, 0, 2, 2], [0, 0, 2, 1.2], [0, 0, 2, 0.8], [1.9, 1.9, 3, 3]]]) * size
    usual = torch.tensor([[[0, 0, 8.0, 8.0], [0, 0, 8, 5]]])  # beside them
    boxes = torch.cat([boxes, usual], dim=1)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
    found = any_nms(scores, boxes, max_detections=6)
    assert found.indices.tolist() == [[0, 2, 3, 4, -1, -1]]  # IoU 0.6, 0.4, about 0; 0.6


def test_nms_computes_half_boxes_in_float32(any_nms: Nms) -> None:
    boxes = torch.tensor([[[0, 0, 512, 512], [0, 0, 512, 300], [0, 0, 512, 250]]])
    found = any_nms(torch.tensor([[0.9, 0.8, 0.7]]).half(), boxes.half(), max_detections=3)
    assert found.indices.tolist() == [[0, 2, -1]]  # the area is four times what half can hold
    assert found.scores.dtype == found.boxes.dtype == torch.float32


def test_gaussian_nms_decays_by_the_exponential_of_the_squared_iou(any_nms: Nms) -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 2], [20, 20, 24, 24]]])  # IoU 0.5, 0
    found = any_nms(torch.tensor([[0.9, 0.8, 0.5]]), boxes, sigma=0.5, max_detections=3)
    assert found.indices.tolist() == [[0, 2, 1]]
    decayed = 0.8 * math.exp(-0.25 / 0.5)  # 0.485, now below the third
    torch.testing.assert_close(found.scores, torch.tensor([[0.9, 0.5, decayed]]))


def test_gaussian_nms_applies_the_score_threshold_after_decay(any_nms: Nms) -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 2]]])
    scores = torch.tensor([[0.9, 0.8]])
    kept = any_nms(scores, boxes, sigma=0.5, score_threshold=0.48)
    assert kept.count.tolist() == [2]
    dropped = any_nms(scores, boxes, sigma=0.5, score_threshold=0.49)
    assert dropped.count.tolist() == [1]


def test_gaussian_nms_ignores_the_iou_threshold(any_nms: Nms) -> None:
    scores, boxes = torch.tensor([[0.9, 0.8]]), squares(0, 0)
    for iou_threshold in (0.0, 1.0):
        found = any_nms(scores, boxes, sigma=0.5, iou_threshold=iou_threshold)
        torch.testing.assert_close(found.scores[0, 1].item(), 0.8 * math.exp(-2), rtol=1e-6, atol=0)


def test_gaussian_nms_leaves_other_classes_alone(any_nms: Nms) -> None:
    labels = torch.tensor([[0, 1]])
    found = any_nms(torch.tensor([[0.9, 0.8]]), squares(0, 0), labels, sigma=0.5)
    torch.testing.assert_close(found.scores[0, :2], torch.tensor([0.9, 0.8]))


def test_gaussian_nms_survives_weights_that_vanish(any_nms: Nms) -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7]])  # exp(-1e6) is 0: no 0 * infinity may appear
    found = any_nms(scores, squares(0, 0, 20), sigma=1e-6, max_detections=3)
    assert found.indices.tolist() == [[0, 2, -1]]


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_nms_drops_zero_scores_where_denormals_are_flushed(any_nms: Nms, sigma: float) -> None:
    # The compiled kernel collected scores from the next float above the threshold on: above 0 that
    # is a denormal, equal to 0 under this setting, so that padding came back as detections.
    scores = torch.tensor([[0.9, 0.0, -0.0]])
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU does not flush denormals")
    try:
        found = any_nms(scores, squares(0, 20, 40), max_detections=3, sigma=sigma)
    finally:
        torch.set_flush_denormal(False)
    assert found.indices.tolist() == [[0, -1, -1]]


def test_nms_of_no_boxes_is_padding() -> None:
    found = poplar_ops.nms(torch.zeros(2, 0), torch.zeros(2, 0, 4), max_detections=3)
    assert found.count.tolist() == [0, 0]
    assert (found.indices == -1).all()


def test_nms_takes_views_that_are_not_contiguous() -> None:
    scores, boxes = SCORES.repeat(2, 1), BOXES.repeat(2, 1, 1)
    expected = poplar_ops.nms(scores, boxes)
    strided = scores.t().contiguous().t()
    columns = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided.is_contiguous()
    assert not columns.is_contiguous()
    for a, b in zip(poplar_ops.nms(strided, columns), expected):
        assert torch.equal(a, b)


def test_nms_changes_no_input_and_carries_no_gradient() -> None:
    scores, boxes = SCORES.clone().requires_grad_(), BOXES.clone().requires_grad_()
    found = poplar_ops.nms(scores, boxes, sigma=0.5)
    assert torch.equal(scores, SCORES)
    assert torch.equal(boxes, BOXES)
    assert not found.scores.requires_grad


def test_nms_of_many_images_equals_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(9, 200, 4, generator=generator) * 50
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(9, 200, generator=generator)
    together = poplar_ops.nms(scores, boxes, max_detections=50)
    for i in range(9):
        alone = poplar_ops.nms(scores[i : i + 1], boxes[i : i + 1], max_detections=50)
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, alone))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3, 4), None), r"scores must be \(B, N\) or \(B, N, C\), got \(3,\)"),
        (((1, 100), (100, 4), None), r"boxes must be \(B, N, 4\) .*got \(100, 4\)"),
        (((2, 3), (1, 3, 4), None), r"boxes must be \(B, N, 4\) with B, N = 2, 3"),
        (((2, 3), (2, 3, 4), (2, 4)), r"labels must be \(B, N\) as in scores, got \(2, 4\)"),
        (((2, 3, 5), (2, 3, 4), (2, 3)), r"scores \(B, N, C\) imply the labels"),
    ],
)
def test_nms_names_the_shape_that_does_not_fit(
    shapes: Tuple[Shape, Shape, Optional[Shape]], message: str
) -> None:
    scores, boxes, labels = shapes
    with pytest.raises(ValueError, match=message):
        poplar_ops.nms(
            torch.zeros(scores),
            torch.zeros(boxes),
            None if labels is None else torch.zeros(labels, dtype=torch.int64),
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iou_threshold": 1.5}, "iou_threshold must be from 0 to 1, got 1.5"),
        ({"iou_threshold": NAN}, "iou_threshold must be"),
        ({"score_threshold": INF}, "score_threshold must be a finite float32"),
        ({"score_threshold": -1e39}, "score_threshold must be a finite float32"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"sigma": -0.5}, "sigma must be 0"),
        ({"sigma": 0.5, "score_threshold": -0.1}, "must not be negative with sigma > 0"),
    ],
)
def test_nms_names_the_setting_that_is_out_of_range(settings: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        poplar_ops.nms(SCORES, BOXES, **settings)


def test_nms_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match=r"scores and boxes must be float32.*float64"):
        poplar_ops.nms(SCORES.double(), BOXES)
    with pytest.raises(TypeError, match="labels must be int32 or int64"):
        poplar_ops.nms(SCORES, BOXES, torch.zeros(1, 6))
