"""What the host does with the graph's outputs."""

from __future__ import annotations

import torch

from detectors.commands.infer.runner import best_candidates
from detectors.postprocess import Candidates, PostprocessConfig

CONFIG = PostprocessConfig(max_detections=3, score_threshold=0.4)


def test_without_nms_the_best_scores_stay_whatever_overlaps() -> None:
    boxes = torch.arange(16.0).reshape(1, 4, 4)
    scores = torch.tensor([[0.3, 0.9, 0.5, 0.8]])
    labels = torch.tensor([[7, 1, 2, 3]], dtype=torch.int32)
    found = best_candidates(Candidates(boxes, scores, labels), CONFIG)
    assert found.labels.tolist() == [[1, 3, 2]]
    assert found.count.tolist() == [3]
    assert found.boxes[0].tolist() == boxes[0, [1, 3, 2]].tolist()
    assert found.labels.dtype == found.count.dtype == torch.int32


def test_without_nms_the_threshold_is_counted_not_cut() -> None:
    scores = torch.tensor([[0.3, 0.9, 0.4, 0.2]])
    labels = torch.zeros(1, 4, dtype=torch.int32)
    found = best_candidates(Candidates(torch.zeros(1, 4, 4), scores, labels), CONFIG)
    assert found.count.tolist() == [1]  # 0.4 is not over 0.4
    assert found.scores.shape == (1, 3)


def test_without_nms_every_pair_of_box_and_class_counts() -> None:
    boxes = torch.arange(8.0).reshape(1, 2, 4)
    scores = torch.tensor([[[0.1, 0.9, 0.2], [0.8, 0.7, 0.3]]])  # 2 boxes, 3 classes
    found = best_candidates(Candidates(boxes, scores, torch.arange(3)[None]), CONFIG)
    assert found.labels.tolist() == [[1, 0, 1]]
    assert found.boxes[0].tolist() == boxes[0, [0, 1, 1]].tolist()
    torch.testing.assert_close(found.scores, torch.tensor([[0.9, 0.8, 0.7]]))
