"""Post-processing: selection against the obvious way, thresholds, ties, masks of levels."""

from __future__ import annotations

from typing import List, Tuple

import pytest
import torch
from torch import Tensor

from detectors.anchors import pyramid_anchors
from detectors.boxes import decode_boxes
from detectors.postprocess import Candidates, Postprocess, PostprocessConfig, gather_rows

SIZE = (64, 64)
ANCHORS = pyramid_anchors(SIZE, (3, 4, 5), 4.0)  # (64 + 16 + 4) * 9 = 756
COUNTS = (576, 144, 36)
CLASSES = 5


def outputs(batch: int = 2, ties: bool = False) -> Tuple[List[Tensor], List[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(batch, count, CLASSES, generator=generator) for count in COUNTS]
    deltas = [torch.randn(batch, count, 4, generator=generator) * 0.3 for count in COUNTS]
    if ties:
        logits = [(level * 2).round() / 2 for level in logits]
    return logits, deltas


def candidates(config: PostprocessConfig, ties: bool = False) -> Candidates:
    return Postprocess(ANCHORS, SIZE, config).candidates(*outputs(ties=ties))


def descending(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest, ties by lowest index: (B, N) -> (B, k)."""
    return values.sort(dim=1, descending=True, stable=True).indices[:, :k]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("top_k", [1, 50, 756, 5000])
def test_best_classes_are_chosen_by_logit_then_index(top_k: int, ties: bool) -> None:
    logits, deltas = (torch.cat(levels, 1) for levels in outputs(ties=ties))
    best = logits.amax(dim=2)
    index = descending(best, top_k)
    actual = candidates(PostprocessConfig(top_k=top_k), ties)
    torch.testing.assert_close(actual.scores, best.gather(1, index).sigmoid())
    assert torch.equal(actual.labels.long(), logits.argmax(2).gather(1, index))
    boxes = decode_boxes(deltas, ANCHORS)
    expected = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    torch.testing.assert_close(actual.boxes, expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("top_k", [1, 50, 756, 3000, 5000])
def test_pairs_are_chosen_by_logit_then_index(top_k: int, ties: bool) -> None:
    logits, deltas = (torch.cat(levels, 1) for levels in outputs(ties=ties))
    pairs = logits.reshape(2, -1)
    index = descending(pairs, top_k)
    actual = candidates(PostprocessConfig(top_k=top_k, multiclass=True), ties)
    torch.testing.assert_close(actual.scores, pairs.gather(1, index).sigmoid())
    assert torch.equal(actual.labels.long(), index % CLASSES)
    boxes = decode_boxes(deltas, ANCHORS)
    expected = boxes.gather(1, (index // CLASSES)[..., None].expand(-1, -1, 4))
    torch.testing.assert_close(actual.boxes, expected)


def test_scores_that_saturate_keep_the_order_of_their_logits() -> None:
    logits = [torch.full((1, count, 1), -9.0) for count in COUNTS]
    logits[1][0, 7], logits[0][0, 5] = 60.0, 50.0  # both sigmoids are 1.0
    deltas = [torch.zeros(1, count, 4) for count in COUNTS]
    actual = Postprocess(ANCHORS, SIZE, PostprocessConfig(top_k=2)).candidates(logits, deltas)
    assert actual.scores.tolist() == [[1.0, 1.0]]
    torch.testing.assert_close(actual.boxes[0], ANCHORS[[576 + 7, 5]])


def test_zero_top_k_takes_all_anchors_in_order() -> None:
    actual = candidates(PostprocessConfig(top_k=0))
    logits, _ = outputs()
    assert actual.boxes.shape == (2, 756, 4)
    torch.testing.assert_close(actual.scores, torch.cat(logits, 1).amax(2).sigmoid())


@pytest.mark.parametrize("multiclass", [False, True])
def test_top_k_over_everything_gives_the_detections_of_all(multiclass: bool) -> None:
    some = PostprocessConfig(top_k=5000, multiclass=multiclass, score_threshold=0.6)
    everything = PostprocessConfig(top_k=0, multiclass=multiclass, score_threshold=0.6)
    expected = Postprocess(ANCHORS, SIZE, everything)(*outputs())
    for actual, wanted in zip(Postprocess(ANCHORS, SIZE, some)(*outputs()), expected):
        torch.testing.assert_close(actual, wanted)


def test_half_outputs_are_ranked_and_decoded_in_float32() -> None:
    logits, deltas = outputs()
    halves = [x.half() for x in logits], [x.half() for x in deltas]
    singles = [x.half().float() for x in logits], [x.half().float() for x in deltas]
    postprocess = Postprocess(ANCHORS, SIZE, PostprocessConfig()).half()
    for actual, wanted in zip(postprocess(*halves), postprocess(*singles)):
        assert torch.equal(actual, wanted)


def test_clipping_before_nms_is_a_switch() -> None:
    loose = candidates(PostprocessConfig())
    clipped = candidates(PostprocessConfig(clip_before_nms=True))
    assert float(loose.boxes.min()) < 0
    assert torch.equal(clipped.boxes, loose.boxes.clamp(0, 64))


def test_unused_places_are_zero_with_label_minus_one() -> None:
    logits = [torch.full((2, count, CLASSES), -9.0) for count in COUNTS]
    logits[0][1, 3, 2] = 9.0  # one object, in the second image
    deltas = [torch.zeros(2, count, 4) for count in COUNTS]
    out = Postprocess(ANCHORS, SIZE, PostprocessConfig(max_detections=3))(logits, deltas)
    assert out.count.tolist() == [0, 1]
    assert out.labels.tolist() == [[-1, -1, -1], [2, -1, -1]]
    torch.testing.assert_close(out.boxes[1, 0], ANCHORS[3])
    assert not out.boxes[0].any()
    assert not out.scores[:, 1:].any()


def test_gather_rows_crosses_levels_and_images() -> None:
    levels = [torch.arange(6.0).reshape(2, 3, 1), 10 + torch.arange(4.0).reshape(2, 2, 1)]
    index = torch.tensor([[4, 0, 2], [3, 1, 1]], dtype=torch.int32)
    assert gather_rows(levels, index)[..., 0].tolist() == [[11.0, 0.0, 2.0], [12.0, 4.0, 4.0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", -1), ("max_detections", 0), ("iou_threshold", 1.5), ("sigma", -0.1)],
)
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"postprocess.{name}"):
        PostprocessConfig(**{name: value})  # type: ignore[arg-type]
