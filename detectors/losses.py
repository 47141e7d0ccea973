"""Losses of rows, summed over those that are valid; in float32.

R rows of any leading shape, C classes. What is not valid has no part in value or gradient; the
caller divides by the count that its recipe names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["binary_cross_entropy", "cross_entropy", "focal", "huber", "smooth_l1"]


def sum_over(losses: Tensor, valid: Tensor) -> Tensor:
    """Sum of the losses (R,) that are valid (R,) bool."""
    return torch.where(valid, losses, torch.zeros_like(losses)).sum()


def smooth_l1(values: Tensor, targets: Tensor, valid: Tensor, beta: float) -> Tensor:
    """d**2 / (2 beta) for |d| < beta, else |d| - beta / 2, where d = values - targets.

    Fast R-CNN (arXiv:1504.08083), eq. 3; its sigma is 1 / sqrt(beta).

    Args:
        values: (R, 4).
        targets: (R, 4), finite in every row.
        valid: (R,) bool.
        beta: 0 gives |d|.

    Returns:
        () sum over valid rows and their 4 values.
    """
    values, targets = values.float(), targets.float()
    if beta > 0:
        losses = F.smooth_l1_loss(values, targets, reduction="none", beta=beta)
    else:
        losses = F.l1_loss(values, targets, reduction="none")
    return sum_over(losses.sum(dim=-1), valid)


def huber(values: Tensor, targets: Tensor, valid: Tensor, delta: float) -> Tensor:
    """d**2 / 2 for |d| < delta, else delta |d| - delta**2 / 2, where d = values - targets.

    EfficientDet's box loss (automl); `delta` times `smooth_l1` with beta = delta.

    Args:
        values: (..., 4).
        targets: (..., 4), finite in every row.
        valid: (...) bool.
        delta: over 0.

    Returns:
        () sum over valid rows and their 4 values.
    """
    return smooth_l1(values, targets, valid, delta) * delta


def focal(
    logits: Tensor,
    labels: Tensor,
    positive: Tensor,
    valid: Tensor,
    *,
    alpha: float,
    gamma: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss of independent classes (arXiv:1708.02002, eq. 5), as automl smooths it.

    With p = sigmoid(logit) and cross-entropies against smoothed targets t, a class that is the
    row's own costs alpha (1 - p)**gamma CE(p, t), any other (1 - alpha) p**gamma CE(p, t): the
    factors before the cross-entropy know nothing of the smoothing.

    Args:
        logits: (..., C).
        labels: (...) integers, 0..C-1 where positive.
        positive: (...) bool; other rows have no class of their own.
        valid: (...) bool; includes every positive row.
        alpha: weight of own classes, 0..1.
        gamma: how much what is known already counts less.
        label_smoothing: s; targets are s / 2 and 1 - s / 2.

    Returns:
        () sum over valid rows and their classes.
    """
    logits = logits.float()
    off = label_smoothing / 2

    def lost(x: Tensor) -> Tensor:
        # Of a class that is not the row's own; log p = x - softplus(x), so that backward needs
        # three tensors of the size of the logits and no more.
        entropy = F.softplus(x)
        factor = (gamma * (x - entropy)).exp()
        return factor * (entropy - off * x if off else entropy)

    label = torch.where(positive, labels, torch.zeros_like(labels)).long()
    mine = logits.gather(-1, label[..., None])[..., 0]
    others = sum_over(lost(logits).sum(dim=-1), valid)
    own = alpha * lost(-mine) - (1 - alpha) * lost(mine)
    return (1 - alpha) * others + sum_over(own, positive)


def cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """-log softmax(logits)[label].

    Args:
        logits: (R, C), R any number of axes.
        labels: (R,) integers, 0..C-1 where valid.
        valid: (R,) bool.

    Returns:
        () sum over valid rows.
    """
    num_classes = logits.shape[-1]
    labels = torch.where(valid, labels, torch.zeros_like(labels)).long()
    losses = F.cross_entropy(
        logits.float().reshape(-1, num_classes), labels.reshape(-1), reduction="none"
    )
    return sum_over(losses, valid.reshape(-1))


def binary_cross_entropy(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """-log sigmoid(logit) where the target is true, else -log(1 - sigmoid(logit)).

    Args:
        logits: (R,).
        targets: (R,) bool.
        valid: (R,) bool.

    Returns:
        () sum over valid rows.
    """
    logits = logits.float()
    losses = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    return sum_over(losses, valid)
