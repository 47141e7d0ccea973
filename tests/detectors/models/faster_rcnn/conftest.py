"""Small detectors of the same code: few regions, pictures of 96 x 128 pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Tuple

import pytest
import torch
from torch import Tensor

from detectors.models.faster_rcnn.config import CONFIGS, FasterRCNNConfig
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn

SIZE = (96, 128)
Batch = Tuple[Tensor, Tensor, Tensor, Tensor]


def small_config(variant: str = "detectron2", **changes: Any) -> FasterRCNNConfig:
    config = CONFIGS[variant]
    changes = {"depth": 18, "norm": "batch", "num_classes": 5, "frozen_stages": 0, **changes}
    return replace(
        config,
        image_size=SIZE,
        anchors=replace(config.anchors, sizes=(16, 32, 64)),
        rpn=replace(config.rpn, num_samples=32, pre_nms=(400, 80), post_nms=(100, 12)),
        box_head=replace(config.box_head, num_samples=8, pool_size=4),
        **changes,
    )


@pytest.fixture(scope="session")
def config() -> Callable[..., FasterRCNNConfig]:
    """(variant, **changes) -> a small configuration of it."""
    return small_config


@pytest.fixture(scope="session")
def detector() -> Callable[..., FasterRCNN]:
    """(variant, **changes) -> a small detector of it, seeded."""

    def build(variant: str = "detectron2", **changes: Any) -> FasterRCNN:
        torch.manual_seed(0)
        return build_faster_rcnn(small_config(variant, **changes))

    return build


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Two pictures, boxes, labels, keys: two objects; an object, a crowd."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=generator)
    boxes = torch.zeros(2, 4, 4)
    labels = torch.full((2, 4), -1, dtype=torch.int32)
    boxes[0, 0] = torch.tensor([10.0, 10.0, 50.0, 60.0])
    boxes[0, 1] = torch.tensor([70.0, 20.0, 120.0, 80.0])
    boxes[1, 0] = torch.tensor([30.0, 5.0, 64.0, 90.0])
    boxes[1, 1] = torch.tensor([80.0, 0.0, 128.0, 96.0])  # the crowd
    labels[0, :2] = torch.tensor([1, 4])
    labels[1, 0] = 2
    return images, boxes, labels, torch.tensor([11, 22], dtype=torch.int32)
