"""The operators in plain torch: vectorised over images and boxes, without host synchronisation.

For CUDA tensors, and for CPU tensors where there is no compiled library. B images, N boxes,
C scores a box, K detections.
"""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

__all__ = ["nms", "topk_select"]

DEAD = float("-inf")  # score of a candidate that is out
HUGE_SCALE = 2.0**-66  # brings the union of the two largest float32 boxes below 2^127


def nms(
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
    class_aware: bool,
    sigma: float,
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """K rounds of: take the best candidate of every image, then drop or decay what overlaps it.

    Args:
        scores: (B, N, C) float32.
        boxes: (B, N, 4) float32.
        labels: (B, N) int32; candidate (n, c) has class labels[n] + c.
        iou_threshold, score_threshold, max_detections, class_aware, sigma: as in `poplar_ops.nms`.

    Returns:
        boxes (B, K, 4), scores (B, K) float32, labels, indices (B, K), count (B,) int32.
    """
    batch, num_boxes, num_classes = scores.shape
    image = torch.arange(batch, device=scores.device)
    classes = labels.unsqueeze(2) + torch.arange(num_classes, device=labels.device)  # (B, N, C)
    classes = classes.int()
    planes = torch.stack([boxes, boxes * HUGE_SCALE])  # (2, B, N, 4)
    alive = scores.where(scores > score_threshold, DEAD)
    winners: List[Tensor] = []
    kept: List[Tensor] = []
    for _ in range(min(max_detections, num_boxes * num_classes)):
        score, winner = alive.flatten(1).max(dim=1)  # (B,) each; ties: the first
        winners.append(winner)
        kept.append(score)
        anchor, column = winner // num_classes, winner % num_classes
        overlap = iou(planes, planes[:, image, anchor].unsqueeze(2)).unsqueeze(2)  # (B, N, 1)
        if class_aware:
            label = classes[image, anchor, column].view(batch, 1, 1)
            overlap = overlap.where(classes == label, 0.0)  # (B, N, C)
        if sigma > 0:
            weight = (-overlap.double().square() / sigma).exp().float()
            decayed = alive * weight.where(overlap > 0, 1.0)
            alive = decayed.where(decayed > score_threshold, DEAD)
        else:
            alive = alive.masked_fill(overlap > iou_threshold, DEAD)
        alive[image, anchor, column] = DEAD
    return pad(winners, kept, boxes, classes, max_detections)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes and of the same boxes scaled down.

    Args:
        a, b: (2, ..., 4) float32 that broadcast; [1] is [0] times `HUGE_SCALE`.

    Returns:
        (...) float32 from [0], or from [1] where areas overflow; at most 0, or NaN, where a box is
        empty, reversed or not finite.
    """
    corner_low = torch.maximum(a[..., :2], b[..., :2])
    corner_high = torch.minimum(a[..., 2:], b[..., 2:])
    size = (corner_high - corner_low).clamp(min=0)
    shared = size[..., 0] * size[..., 1]
    together = (area(a) + area(b)) - shared
    ratio = shared / together
    return ratio[0].where(together[0].isfinite(), ratio[1])


def area(boxes: Tensor) -> Tensor:
    """(..., 4) boxes -> (...) areas, negative where one side is reversed."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pad(
    winners: List[Tensor], kept: List[Tensor], boxes: Tensor, classes: Tensor, max_detections: int
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rounds of winners (B,) and their scores -> rows of the result."""
    batch, _, num_classes = classes.shape
    rounds = len(winners)
    out_boxes = boxes.new_zeros((batch, max_detections, 4))
    out_scores = boxes.new_zeros((batch, max_detections))
    labels = classes.new_full((batch, max_detections), -1)
    indices = classes.new_full((batch, max_detections), -1)
    if rounds == 0:
        return out_boxes, out_scores, labels, indices, classes.new_zeros((batch,))
    score, winner = torch.stack(kept, dim=1), torch.stack(winners, dim=1)  # (B, rounds)
    valid = score > DEAD
    anchor = winner // num_classes
    box = boxes.gather(1, anchor.unsqueeze(2).expand(batch, rounds, 4))
    out_boxes[:, :rounds] = box.where(valid.unsqueeze(2), 0.0)
    out_scores[:, :rounds] = score.where(valid, 0.0)
    labels[:, :rounds] = classes.flatten(1).gather(1, winner).where(valid, -1)
    indices[:, :rounds] = anchor.int().where(valid, -1)
    return out_boxes, out_scores, labels, indices, valid.sum(1, dtype=torch.int32)


def topk_select(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Top-k over integers that hold the value above and the column below, so that none are equal.

    Args:
        x: (B, N) float32.
        k: values kept a row.

    Returns:
        values (B, k) float32, indices (B, k) int32.
    """
    value = x.where(~x.isnan(), DEAD) + 0.0  # -0 becomes +0
    bits = value.view(torch.int32).long()
    order = torch.where(bits < 0, -(2**31) - 1 - bits, bits)  # as the floats are ordered
    column = torch.arange(x.shape[1], device=x.device)
    key = order * 2**32 + (2**32 - 1 - column)
    indices = 2**32 - 1 - key.topk(k, dim=1).values.remainder(2**32)
    return x.gather(1, indices), indices.int()
