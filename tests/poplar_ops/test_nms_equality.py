"""Every implementation of NMS gives the reference's rows, bit for bit."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import plain, reference
from poplar_ops.nms import run_compiled

CASES = 1000
Case = Tuple[Tensor, Tensor, Tensor, Dict[str, Any]]


def random_cases(count: int, dtype: torch.dtype) -> Iterator[Case]:
    """Small images that are hard to agree on: ties, touching edges, odd and huge boxes."""
    generator = torch.Generator().manual_seed(7)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    for case in range(count):
        batch, num_boxes = 1 + case % 2, 1 + case % 23
        num_classes = (1, 1, 3)[case % 3]
        corner, size = rand(batch, num_boxes, 2) * 30, rand(batch, num_boxes, 2) * 25
        boxes = torch.cat([corner, corner + size], dim=2)
        if case % 4 == 0:
            boxes = boxes.round()  # many equal IoUs and degenerate boxes
        if case % 7 == 0:
            boxes[:, ::5] = boxes[:, ::5].flip(2)  # reversed
        if case % 11 == 0:
            boxes = boxes * 1e18  # areas overflow
        scores = rand(batch, num_boxes, num_classes)
        if case % 2 == 0:
            scores = (scores * 10).round() / 10  # ties
        labels = torch.randint(0, 3, (batch, num_boxes), generator=generator, dtype=torch.int32)
        if num_classes > 1:
            labels.zero_()
        settings = {
            "iou_threshold": (0.5, 0.3, 0.0, 1.0, 0.7)[case % 5],
            "score_threshold": (0.0, 0.2)[case % 2],
            "max_detections": 1 + case % 17,
            "class_aware": case % 6 != 0,
            "sigma": (0.0, 0.0, 0.5, 0.1)[case % 4],
        }
        yield scores.to(dtype).float(), boxes.to(dtype).float(), labels, settings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nms_equals_the_reference_over_random_cases(dtype: torch.dtype) -> None:
    for number, (scores, boxes, labels, settings) in enumerate(random_cases(CASES, dtype)):
        expected = reference.nms(scores, boxes, labels, **settings)
        tensors = (scores.to(dtype), boxes.to(dtype))
        if scores.shape[2] == 1:
            found = poplar_ops.nms(tensors[0][..., 0], tensors[1], labels, **settings)
        else:
            found = poplar_ops.nms(*tensors, **settings)
        for name, a, b in zip(found._fields, expected, found):
            assert torch.equal(a, b), f"case {number}: {name} of poplar_ops.nms, {settings}"


def test_plain_nms_equals_the_reference_over_random_cases() -> None:
    for number, (scores, boxes, labels, settings) in enumerate(random_cases(300, torch.float32)):
        expected = reference.nms(scores, boxes, labels, **settings)
        found = plain.nms(scores, boxes, labels, **settings)
        for name, a, b in zip(poplar_ops.Detections._fields, expected, found):
            assert torch.equal(a, b), f"case {number}: {name}, {settings}"


@pytest.mark.parametrize("sigma", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1.0, 1e18])
def test_every_instruction_set_gives_the_same_rows(
    simd_level: str, sigma: float, scale: float
) -> None:
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(2, 1500, 2, generator=generator) * 200
    size = torch.rand(2, 1500, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + size], dim=2) * scale
    scores = torch.rand(2, 1500, 1, generator=generator)
    labels = torch.randint(0, 3, (2, 1500), generator=generator, dtype=torch.int32)
    arguments = (scores, boxes, labels, 0.5, 0.05, 150, True, sigma)
    expected = plain.nms(*arguments)
    assert expected[4].tolist() == [150, 150]
    for name, a, b in zip(poplar_ops.Detections._fields, expected, run_compiled(*arguments)):
        assert torch.equal(a, b), name


def test_nms_of_more_scores_than_it_first_looks_at() -> None:
    # 120 000 candidates, all in two heaps of equal boxes: the best thousands yield one row each,
    # so the kernel has to come back for the others.
    scores = torch.rand(1, 40_000, 3, generator=torch.Generator().manual_seed(5))
    scores[0, :10] *= 1e-3
    boxes = torch.tensor([0.0, 0, 10, 10]).expand(1, 40_000, 4).clone()
    boxes[0, :10] += 100
    arguments = (scores, boxes, torch.zeros(1, 40_000, dtype=torch.int32), 0.5, 0.0, 20, True, 0.0)
    found = torch.ops.poplar_ops.nms(*arguments)
    assert found[4].tolist() == [6]  # one row per heap and class
    for a, b in zip(found, plain.nms(*arguments)):
        assert torch.equal(a, b)
