"""EfficientNet's shapes and tables."""

from __future__ import annotations

from typing import List, Tuple

import pytest
import torch

from detectors.backbones.efficientnet import EfficientNet


@pytest.mark.parametrize(
    ("name", "stem", "repeats", "channels"),
    [
        ("efficientnet-b0", 32, [1, 2, 2, 3, 3, 4, 1], (40, 112, 320)),
        ("efficientnet-b2", 32, [2, 3, 3, 4, 4, 5, 2], (48, 120, 352)),
        ("efficientnet-b4", 48, [2, 4, 4, 6, 6, 8, 2], (56, 160, 448)),
        ("efficientnet-b7", 64, [4, 7, 7, 10, 10, 13, 4], (80, 224, 640)),
        ("efficientnet-lite4", 32, [1, 4, 4, 6, 6, 8, 1], (56, 160, 448)),
    ],
)
def test_widths_and_depths(
    name: str, stem: int, repeats: List[int], channels: Tuple[int, ...]
) -> None:
    with torch.device("meta"):
        backbone = EfficientNet(name)
    assert backbone.stem.conv.out_channels == stem
    assert [len(stage) for stage in backbone.stages] == repeats  # type: ignore[arg-type]
    assert backbone.channels == channels


def test_c5_of_b0_at_224_is_7_by_7() -> None:
    features = EfficientNet("efficientnet-b0").eval()(torch.zeros(1, 3, 224, 224))
    assert [tuple(x.shape) for x in features] == [(1, 40, 28, 28), (1, 112, 14, 14), (1, 320, 7, 7)]


def test_squeeze_is_a_quarter_of_what_enters_the_block() -> None:
    with torch.device("meta"):
        block = EfficientNet("efficientnet-b0").stages[1][0]  # type: ignore[index]
    assert block.squeeze.reduce.out_channels == 4  # 16 / 4, not 96 / 4


@pytest.mark.parametrize(
    ("module", "fan_out"),
    [
        ("stem.conv", 9 * 32),
        ("stages.1.0.expand.conv", 96),
        ("stages.1.0.depthwise.conv", 9),  # TensorFlow's kernel is (3, 3, 96, 1)
        ("stages.6.0.depthwise.conv", 9),
        ("stages.5.3.depthwise.conv", 25),
        ("stages.6.0.project.conv", 320),
    ],
)
def test_weights_begin_with_automls_variance(module: str, fan_out: int) -> None:
    torch.manual_seed(0)
    weight = EfficientNet("efficientnet-b0").get_submodule(module).weight
    assert isinstance(weight, torch.Tensor)
    assert float(weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
