"""How fast averages of weights move, and which weights are averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detectors.experiment.averages import averaged_names, decay_over, wide
from detectors.layers import FrozenBatchNorm2d


def test_the_decay_warms_up_with_the_updates() -> None:
    assert decay_over(0.9998, 0, 1) == 2 / 11
    assert decay_over(0.9998, 1, 2) == 3 / 12
    assert decay_over(0.9998, 89, 90) == 91 / 100
    # (1 + n) / (10 + n) passes .9998 at n = 44 990
    assert decay_over(0.9998, 44_988, 44_989) == 44_990 / 44_999
    assert decay_over(0.9998, 44_990, 44_991) == 0.9998


def test_a_constant_decay_bounds_it() -> None:
    assert decay_over(0.2, 0, 1) == 2 / 11
    assert decay_over(0.2, 1, 2) == 0.2
    assert decay_over(0.0, 5, 6) == 0.0


def test_several_updates_multiply() -> None:
    assert decay_over(0.9, 0, 3) == pytest.approx(2 / 11 * 3 / 12 * 4 / 13)
    assert decay_over(0.9, 1000, 1010) == pytest.approx(0.9**10)
    assert decay_over(0.9, 7, 7) == 1.0


def test_trained_weights_and_floating_buffers_are_averaged() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
    model[2].weight.requires_grad_(False)
    assert averaged_names(model) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    ]
    constants = [name for name, _ in FrozenBatchNorm2d(2).named_buffers()]
    assert averaged_names(FrozenBatchNorm2d(2)) == constants


def test_half_weights_are_averaged_in_single_precision() -> None:
    half = torch.ones(2, dtype=torch.float16)
    assert wide(half).dtype is torch.float32
    single = torch.ones(2)
    assert wide(single) is single
