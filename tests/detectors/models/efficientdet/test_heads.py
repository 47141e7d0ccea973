"""The heads: order of anchors, sharing, and the prior."""

from __future__ import annotations

import pytest
import torch

from detectors.models.efficientdet.heads import PredictionHead


def test_outputs_are_ordered_row_column_anchor() -> None:
    head = PredictionHead(2, outputs=4, num_anchors=3, num_repeats=0, num_levels=1)
    torch.nn.init.zeros_(head.predict.depthwise.weight)
    head.predict.depthwise.weight.data[:, 0, 1, 1] = 1  # identity
    pointwise = head.predict.pointwise
    assert isinstance(pointwise, torch.nn.Conv2d)
    assert pointwise.bias is not None
    pointwise.weight.data = torch.zeros(12, 2, 1, 1)
    pointwise.weight.data[:, 0] = 1
    pointwise.bias.data = torch.arange(12.0) / 100  # anchor a, output j: (4 a + j) / 100
    cells = torch.zeros(1, 2, 2, 2)
    cells[0, 0] = torch.tensor([[0.0, 1.0], [2.0, 3.0]])  # row-major cell numbers
    (out,) = head([cells])
    assert out.shape == (1, 12, 4)
    cell, anchor, output = 2, 1, 3
    torch.testing.assert_close(out[0, cell * 3 + anchor, output], torch.tensor(2.07))


def test_class_scores_start_at_one_percent() -> None:
    head = PredictionHead(8, 90, 9, 1, 1, bias=-4.59511985)
    bias = head.predict.pointwise.bias
    assert isinstance(bias, torch.Tensor)
    torch.testing.assert_close(bias.sigmoid(), torch.full((810,), 0.01))


@pytest.mark.parametrize(
    ("module", "fan_in"),
    [("depthwise", 9 * 64), ("pointwise", 64)],  # (3, 3, 64, 1) and (1, 1, 64, 810) in TensorFlow
)
def test_weights_begin_with_automls_variance(module: str, fan_in: int) -> None:
    torch.manual_seed(0)
    head = PredictionHead(64, 90, 9, num_repeats=1, num_levels=1)
    for conv in (head.convs[0], head.predict):
        weight = conv.get_submodule(module).weight
        assert isinstance(weight, torch.Tensor)
        assert float(weight.detach().std()) == pytest.approx((1 / fan_in) ** 0.5, rel=0.1)


def test_levels_share_convolutions_but_not_norms() -> None:
    head = PredictionHead(8, 4, 9, num_repeats=2, num_levels=5)
    names = [name for name, _ in head.named_parameters()]
    assert sum(name.endswith("pointwise.weight") for name in names) == 3
    assert sum(name.startswith("norms.") and name.endswith("weight") for name in names) == 10


def test_channels_last_outputs_are_views_in_order() -> None:
    head = PredictionHead(8, 4, 9, 1, 1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    (out,) = head([x])
    assert out.is_contiguous()
