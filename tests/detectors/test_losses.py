"""Losses: by hand, and what is not valid has no part."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.losses import binary_cross_entropy, cross_entropy, focal, huber, smooth_l1

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


def by_the_formula(
    logits: Tensor, own: Tensor, alpha: float, gamma: float, smoothing: float
) -> Tensor:
    """Focal loss of every logit, from probabilities, in double: the slow reference.

    Args:
        logits: (R, C).
        own: (R, C), 1 for a row's own class.
    """
    p = logits.double().sigmoid()
    known = own * p + (1 - own) * (1 - p)  # p_t
    target = own * (1 - smoothing) + smoothing / 2
    entropy = -target * p.log() - (1 - target) * (1 - p).log()
    return (own * alpha + (1 - own) * (1 - alpha)) * (1 - known) ** gamma * entropy


def focal_of(logits: Tensor, label: int, **settings: float) -> float:
    """Of one row; label -1 is background."""
    positive = torch.tensor([label >= 0])
    valid = torch.ones_like(positive)
    return float(focal(logits[None], torch.tensor([label]), positive, valid, **settings))


def near(value: float) -> Any:
    """Up to single precision: what a row's own class costs is a difference."""
    return pytest.approx(value, rel=1e-5)


def test_focal_by_hand() -> None:
    logit = torch.tensor([math.log(3.0)])  # sigmoid 3 / 4
    assert focal_of(logit, 0, alpha=0.25, gamma=2.0) == near(0.25 * (1 / 4) ** 2 * math.log(4 / 3))
    assert focal_of(logit, -1, alpha=0.25, gamma=2.0) == near(0.75 * (3 / 4) ** 2 * math.log(4))
    both = torch.tensor([math.log(3.0), 0.0])  # the second class: 0.75 * 0.5**2 * log 2
    assert focal_of(both, 0, alpha=0.25, gamma=2.0) == near(
        0.25 / 16 * math.log(4 / 3) + 0.75 / 4 * math.log(2)
    )


def test_focal_smooths_the_entropy_and_not_the_factor_before_it() -> None:
    logit = torch.tensor([math.log(3.0)])
    settings = {"alpha": 0.25, "gamma": 2.0, "label_smoothing": 0.2}
    own = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)  # targets 0.9 and 0.1
    assert focal_of(logit, 0, **settings) == near(0.25 / 16 * own)
    other = 0.1 * math.log(4 / 3) + 0.9 * math.log(4)
    assert focal_of(logit, -1, **settings) == near(0.75 * 9 / 16 * other)


def test_focal_without_focus_is_half_the_binary_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 0, 0])
    positive = torch.tensor([True, True, False, True, False])
    valid = torch.ones(5, dtype=torch.bool)
    targets = F.one_hot(labels, 3).bool() & positive[:, None]
    expected = binary_cross_entropy(logits, targets, valid[:, None].expand(5, 3))
    found = focal(logits, labels, positive, valid, alpha=0.5, gamma=0.0)
    torch.testing.assert_close(2 * found, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
def test_focal_and_its_gradient_equal_the_formula(gamma: float, smoothing: float) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)) * 3
    labels = torch.tensor([3, 0, 1, 99, -1, 2])  # what is not positive has no label
    positive = torch.tensor([True, True, True, False, False, False])
    valid = torch.tensor([True, True, True, True, True, False])
    own = torch.zeros(6, 4, dtype=torch.float64)
    own[[0, 1, 2], [3, 0, 1]] = 1
    one, other = logits.clone().requires_grad_(True), logits.clone().requires_grad_(True)
    settings = {"alpha": 0.25, "gamma": gamma}
    found = focal(one, labels, positive, valid, label_smoothing=smoothing, **settings)
    expected = by_the_formula(other, own, 0.25, gamma, smoothing)[:5].sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        *torch.autograd.grad(found, one), *torch.autograd.grad(expected, other)
    )


def test_focal_of_certain_logits_is_finite_with_its_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    labels, yes = torch.tensor([0, 0]), torch.tensor([True, True])
    loss = focal(logits, labels, yes, yes, alpha=0.25, gamma=1.5, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    # right and certain: nothing but smoothing, times a factor of 0; wrong: 200 with p_t = 0
    expected = 0.25 * 0.95 * 200 + 0.75 * 0.95 * 200
    assert float(loss.detach()) == pytest.approx(expected)


def test_huber_is_quadratic_below_delta_and_linear_above() -> None:
    values = torch.tensor([[0.25, 2.0, -0.5, 0.0], [9.0, 9.0, 9.0, 9.0]])
    loss = huber(values, torch.zeros(2, 4), BOTH, delta=0.5)
    # 0.25**2 / 2, 0.5 * 2 - 0.5**2 / 2, 0.5**2 / 2, 0
    assert float(loss) == pytest.approx(0.03125 + 0.875 + 0.125)


def test_focal_and_huber_of_nothing_valid_are_zero_with_zero_gradient() -> None:
    none = torch.tensor([False, False])
    values = torch.randn(2, 4, requires_grad=True)
    loss = focal(values, torch.tensor([7, -1]), none, none, alpha=0.25, gamma=1.5)
    loss = loss + huber(values, torch.zeros(2, 4), none, delta=0.1)
    (gradient,) = torch.autograd.grad(loss, values)
    assert float(loss.detach()) == 0
    assert gradient.abs().sum() == 0
