"""The whole family: parameters to the last one, and any input size."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

import pytest
import torch

from detectors.anchors import level_size
from detectors.models.efficientdet.config import CONFIGS
from detectors.models.efficientdet.network import build_network

PARAMETERS = {  # automl's unit tests; all, and the backbone's
    "d0": (3_880_067, 3_595_388),
    "d1": (6_625_898, 6_101_024),
    "d2": (8_097_039, 7_202_562),
    "d3": (12_032_296, 10_103_336),
    "d4": (20_723_675, 16_742_216),
    "d5": (33_653_315, 27_288_112),
    "d6": (51_871_782, 39_403_992),
    "d7": (51_871_782, 39_403_992),
    "d7x": (77_147_166, 62_143_440),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_equal_the_published_counts(name: str) -> None:
    with torch.device("meta"):
        network = build_network(CONFIGS[f"efficientdet-{name}"])
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    backbone = sum(p.numel() for p in network.backbone.parameters())
    assert (trainable, backbone) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(64, 64), (99, 133), (40, 200)])
def test_any_input_size_gives_a_prediction_for_every_anchor(size: Tuple[int, int]) -> None:
    config = replace(CONFIGS["efficientdet-d0"], num_classes=3, fpn_cells=1)
    network = build_network(config).eval()
    with torch.no_grad():
        logits, deltas = network(torch.randn(2, 3, *size))
    cells = [level_size(size, level) for level in range(3, 8)]
    assert [tuple(x.shape) for x in logits] == [(2, h * w * 9, 3) for h, w in cells]
    assert [tuple(x.shape) for x in deltas] == [(2, h * w * 9, 4) for h, w in cells]


def test_levels_2_to_7_are_a_setting() -> None:
    config = replace(CONFIGS["efficientdet-d0"], min_level=2, num_classes=1, fpn_cells=1)
    with torch.no_grad():
        logits, _ = build_network(config).eval()(torch.randn(1, 3, 64, 64))
    assert [x.shape[1] for x in logits] == [9 * n * n for n in (16, 8, 4, 2, 1, 1)]


def test_every_parameter_learns() -> None:
    config = replace(CONFIGS["efficientdet-d0"], num_classes=2, fpn_cells=2)
    network = build_network(config).train()
    logits, deltas = network(torch.randn(2, 3, 128, 128))
    loss = sum(x.square().sum() for x in logits + deltas)
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
