"""What every anchor is trained on, and the two losses (arXiv:1911.09070, sec. 5.1; automl).

B images, N anchors of all levels, N_l of level l, G boxes after padding, C classes.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from detectors.boxes import encode_where
from detectors.losses import focal, huber
from detectors.matching import IGNORE, POSITIVE, MatchConfig, match_boxes
from detectors.models.efficientdet.config import LossConfig
from detectors.postprocess import gather_rows

__all__ = ["Targets", "assign_targets", "box_loss", "class_loss"]

MATCHING = MatchConfig(positive=0.5, negative=0.5, force=True)


class Targets(NamedTuple):
    """One entry for each anchor."""

    labels: Tensor
    """(B, N) int32, 0..C-1 where positive."""
    deltas: Tensor
    """(B, N, 4) float32; 0 where not positive."""
    positive: Tensor
    """(B, N) bool."""
    valid: Tensor
    """(B, N) bool; False where the anchor lies in a region to ignore."""


def assign_targets(anchors: Tensor, boxes: Tensor, labels: Tensor) -> Targets:
    """Match anchors with boxes: object from an IoU of 0.5 on, and the best anchor of each box.

    Args:
        anchors: (N, 4) float32.
        boxes: (B, G, 4) float32.
        labels: (B, G) integers; -1 is padding (zero box) or a region to ignore.
    """
    matches = match_boxes(anchors, boxes, labels, MATCHING)
    positive = matches.state == POSITIVE
    matched = gather_rows([boxes], matches.index)  # (B, N, 4)
    return Targets(
        labels.int().gather(1, matches.index.long()),
        encode_where(positive, matched, anchors.expand_as(matched)),
        positive,
        matches.state != IGNORE,
    )


def class_loss(logits: Sequence[Tensor], targets: Targets, config: LossConfig) -> Tensor:
    """Focal loss, summed over all anchors that are not ignored.

    Args:
        logits: one (B, N_l, C) for each level.
        targets: of all levels.
        config: alpha, gamma and label_smoothing count.

    Returns:
        () float32.
    """
    parts = [
        focal(
            level,
            targets.labels[:, first:last],
            targets.positive[:, first:last],
            targets.valid[:, first:last],
            alpha=config.alpha,
            gamma=config.gamma,
            label_smoothing=config.label_smoothing,
        )
        for level, (first, last) in zip(logits, ranges(logits))
    ]
    return torch.stack(parts).sum()


def box_loss(deltas: Sequence[Tensor], targets: Targets, config: LossConfig) -> Tensor:
    """Huber loss, summed over the deltas of positive anchors.

    Args:
        deltas: one (B, N_l, 4) for each level.
        targets: of all levels.
        config: delta counts.

    Returns:
        () float32.
    """
    parts = [
        huber(level, targets.deltas[:, first:last], targets.positive[:, first:last], config.delta)
        for level, (first, last) in zip(deltas, ranges(deltas))
    ]
    return torch.stack(parts).sum()


def ranges(levels: Sequence[Tensor]) -> Iterator[Tuple[int, int]]:
    """First and last + 1 of the anchors of each level."""
    first = 0
    for level in levels:
        last = first + level.shape[1]
        yield first, last
        first = last
