"""Hard and soft NMS beside each other: one pass of the network, AutoML's rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import List, Tuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors import efficientdet, faster_rcnn
from detectors.commands.evaluate.suppression import (
    SIGMAS,
    SeveralNms,
    evaluation_postprocess,
    split_detections,
)
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.postprocess import Candidates, select

Rows = NDArray[np.float64]


def soft_nms_per_class(
    boxes: Rows, scores: Rows, labels: NDArray[np.int64], sigma: float, threshold: float, most: int
) -> List[Tuple[float, int, int]]:
    """AutoML's procedure: gaussian soft-NMS of each class alone, then the best of all together.

    Returns:
        (score, label, row) of what is kept, best first.
    """
    kept: List[Tuple[float, int, int]] = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        left = scores[rows].copy()
        taken = 0
        while taken < most and left.max() > threshold:
            best = int(left.argmax())
            kept.append((float(left[best]), int(label), int(rows[best])))
            taken += 1
            left[best] = -1.0
            low = np.maximum(boxes[rows[best], :2], boxes[rows, :2])
            high = np.minimum(boxes[rows[best], 2:], boxes[rows, 2:])
            inner = np.maximum(high - low, 0).prod(axis=1)
            area = (boxes[rows, 2:] - boxes[rows, :2]).prod(axis=1)
            overlap = inner / (area[best] + area - inner)
            left = np.where(left > 0, left * np.exp(-(overlap**2) / sigma), left)
    return sorted(kept, key=lambda one: -one[0])[:most]


def candidates(seed: int) -> Candidates:
    """60 boxes of three classes that overlap much."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(1, 60, 2, generator=generator) * 40
    sides = 10 + torch.rand(1, 60, 2, generator=generator) * 30
    scores = torch.rand(1, 60, generator=generator).sort(descending=True).values
    labels = torch.randint(0, 3, (1, 60), generator=generator, dtype=torch.int32)
    return Candidates(torch.cat([corners, corners + sides], dim=-1), scores, labels)


def test_soft_nms_is_automls_within_each_class() -> None:
    settings = evaluation_postprocess(efficientdet("d0", 3, image_size=64), "soft")
    settings = replace(settings, max_detections=30)
    given = candidates(1)
    found = select(given, settings)
    boxes, scores, labels = (part[0].numpy() for part in given)
    wanted = soft_nms_per_class(
        boxes.astype(np.float64), scores.astype(np.float64), labels, 0.5, 0.001, 30
    )
    assert len(wanted) == int(found.count[0]) == 30
    assert found.labels[0].tolist() == [label for _, label, _ in wanted]
    torch.testing.assert_close(found.boxes[0], given.boxes[0][[row for _, _, row in wanted]])
    np.testing.assert_allclose(found.scores[0].numpy(), [one[0] for one in wanted], rtol=1e-5)


def test_the_decay_is_the_papers_with_sigma_one_half() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 8.0]]])
    given = Candidates(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0, 0, 1]]).int())
    model = efficientdet("d0", 2, image_size=64)
    soft = select(given, evaluation_postprocess(model, "soft"))
    # IoU 0.8; the other class does not decay; TensorFlow's exp(-IoU**2 / (2 * 0.25)) is this
    decayed = 0.8 * math.exp(-(0.8**2) / 0.5)
    assert int(soft.count[0]) == 3
    torch.testing.assert_close(soft.scores[0, :3], torch.tensor([0.9, 0.7, decayed]))
    hard = select(given, evaluation_postprocess(model, "hard"))
    assert int(hard.count[0]) == 2
    assert hard.scores[0, :2].tolist() == soft.scores[0, :2].tolist()


def test_efficientdet_is_judged_by_automls_settings_and_others_by_their_own() -> None:
    settings = evaluation_postprocess(efficientdet("d0", 3, image_size=64), "hard")
    assert (settings.top_k, settings.multiclass, settings.max_detections) == (5000, True, 100)
    assert (settings.score_threshold, settings.iou_threshold) == (0.001, 0.5)
    assert (settings.class_aware, settings.clip_before_nms, settings.sigma) == (True, False, 0.0)
    model = faster_rcnn("r18_c4", 3, variant="detectron2", image_size=64)
    assert evaluation_postprocess(model, "hard") == model.postprocess.config
    assert evaluation_postprocess(model, "soft") == replace(model.postprocess.config, sigma=0.5)


def test_one_pass_of_the_network_serves_both() -> None:
    torch.manual_seed(0)
    model = spread_outputs(efficientdet("d0", 4, image_size=64), seed=0)
    settings = [evaluation_postprocess(model, nms) for nms in SIGMAS]
    model.configure(postprocess=settings[0])
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    passes: List[Tensor] = []
    hook = model.network.register_forward_hook(
        lambda module, inputs, outputs: passes.append(images)
    )
    with torch.no_grad():
        found = split_detections(SeveralNms(model, settings)(images), 2)
    hook.remove()
    assert len(passes) == 1
    for detections, config in zip(found, settings):
        with torch.no_grad():
            alone = model.configure(postprocess=config)(images)
        for ours, theirs in zip(detections, alone):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert not torch.equal(found[0].scores, found[1].scores)
