"""Folding: by hand, and the same function before and after."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

from detectors import efficientdet
from detectors.folding import fold_batch_norm, fold_conv_norm
from detectors.layers import ConvNorm
from detectors.models.efficientdet.bifpn import FusionNode
from detectors.models.efficientdet.heads import PredictionHead


def randomise_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


def test_fold_by_hand() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1.0)
    assert conv.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight.data.fill_(6.0)
    conv.bias.data.fill_(5.0)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(3.0)  # sqrt(3 + eps) = 2
    norm.weight.data.fill_(4.0)
    norm.bias.data.fill_(1.0)
    folded = fold_conv_norm(conv, norm)
    assert folded.bias is not None
    assert folded.weight.item() == 12.0  # 6 * 4 / 2
    assert folded.bias.item() == 7.0  # (5 - 2) * 4 / 2 + 1
    assert conv.weight.item() == 6.0


@pytest.mark.parametrize("fusion", ["fastattn", "attn", "sum"])
def test_folded_node_computes_the_same(fusion: str) -> None:
    torch.manual_seed(0)
    node = FusionNode([8, 4, 4], 4, fusion, "swish").eval()
    randomise_norms(node)
    if fusion != "sum":
        node.fusion.edge_weights.data = torch.tensor([0.7, -0.3, 1.9])
    inputs = [torch.randn(1, 8, 5, 5), torch.randn(1, 4, 3, 3), torch.randn(1, 4, 9, 9)]
    folded = fold_batch_norm(node)
    assert not list(folded.fusion.parameters())
    torch.testing.assert_close(folded(inputs, (5, 5)), node(inputs, (5, 5)))


def test_folded_head_keeps_a_norm_for_each_level() -> None:
    torch.manual_seed(0)
    head = PredictionHead(8, 4, 9, num_repeats=2, num_levels=2).eval()
    randomise_norms(head)
    features = [torch.randn(2, 8, 6, 6), torch.randn(2, 8, 3, 3)]
    folded = fold_batch_norm(head)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    for actual, expected in zip(folded(features), head(features)):
        torch.testing.assert_close(actual, expected)


def test_folding_leaves_the_model_alone() -> None:
    model = efficientdet("d0", image_size=128)
    before = copy.deepcopy(model.state_dict())
    fold_batch_norm(model)
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_folding_twice_changes_nothing() -> None:
    once = fold_batch_norm(efficientdet("d0", image_size=128))
    twice = fold_batch_norm(once)
    assert set(once.state_dict()) == set(twice.state_dict())


def test_folding_a_half_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs float32 parameters, got \['torch.float16'\]"):
        fold_batch_norm(ConvNorm(3, 8, 3).half())


def test_a_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        fold_conv_norm(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False))


def test_norms_that_stay_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    assert "1 batch norms were not folded, first 1" in caplog.text
