"""Losses: by hand, and what is not valid has no part."""

from __future__ import annotations

import math

import pytest
import torch

from detectors.losses import binary_cross_entropy, cross_entropy, smooth_l1

BOTH = torch.tensor([True, False])


def test_smooth_l1_is_quadratic_below_beta_and_linear_above() -> None:
    values = torch.tensor([[0.25, 2.0, -0.5, 0.0], [9.0, 9.0, 9.0, 9.0]])
    loss = smooth_l1(values, torch.zeros(2, 4), BOTH, beta=0.5)
    # 0.25**2 / (2 * 0.5), 2 - 0.25, 0.5 - 0.25, 0
    assert float(loss) == pytest.approx(0.0625 + 1.75 + 0.25)


def test_beta_zero_is_the_absolute_difference() -> None:
    values = torch.tensor([[1.0, -2.0, 0.5, 0.0], [7.0, 7.0, 7.0, 7.0]])
    assert float(smooth_l1(values, torch.zeros(2, 4), BOTH, beta=0.0)) == pytest.approx(3.5)


def test_sigma_3_is_beta_one_ninth() -> None:
    # py-faster-rcnn: 0.5 * (sigma * d)**2 below 1 / sigma**2, else |d| - 0.5 / sigma**2
    values = torch.tensor([[0.1, 0.2, 0.0, 0.0]])
    loss = smooth_l1(values, torch.zeros(1, 4), torch.tensor([True]), beta=1 / 9)
    assert float(loss) == pytest.approx(0.5 * 9 * 0.01 + 0.2 - 0.5 / 9)


def test_cross_entropy_of_equal_logits_is_log_of_classes() -> None:
    labels = torch.tensor([2, 99])  # the second is no class, and not valid
    loss = cross_entropy(torch.zeros(2, 4), labels, BOTH)
    assert float(loss) == pytest.approx(math.log(4))


def test_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([math.log(3.0), math.log(3.0), 50.0])  # sigmoid 3 / 4
    targets = torch.tensor([True, False, False])
    valid = torch.tensor([True, True, False])
    loss = binary_cross_entropy(logits, targets, valid)
    assert float(loss) == pytest.approx(math.log(4 / 3) + math.log(4))


def test_binary_is_the_two_way_softmax_of_the_difference() -> None:
    pair = torch.tensor([[0.3, 1.7], [2.0, -1.0]])  # background, object
    targets, valid = torch.tensor([True, False]), torch.tensor([True, True])
    two_way = cross_entropy(pair, targets.long(), valid)
    torch.testing.assert_close(
        binary_cross_entropy(pair[:, 1] - pair[:, 0], targets, valid), two_way
    )


def test_nothing_valid_is_zero_with_zero_gradient() -> None:
    none = torch.tensor([False, False])
    logits = torch.randn(2, 4, requires_grad=True)
    loss = (
        cross_entropy(logits, torch.tensor([0, -1]), none)
        + smooth_l1(logits, torch.zeros(2, 4), none, beta=1.0)
        + binary_cross_entropy(logits[:, 0], none, none)
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert gradient.abs().sum() == 0


def test_half_inputs_give_float32_sums() -> None:
    values = torch.full((70_000, 4), 1.0).half()  # the sum overflows half
    loss = smooth_l1(values, torch.zeros(70_000, 4), torch.ones(70_000).bool(), beta=0.0)
    assert loss.dtype == torch.float32
    assert float(loss) == 280_000
