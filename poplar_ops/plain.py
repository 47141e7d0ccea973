"""The operators in plain torch: vectorised over images and boxes, without host synchronisation.

For CUDA tensors, and for CPU tensors where there is no compiled library. B images, N boxes,
C scores a box, K detections.
"""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

__all__ = ["nms", "roi_align", "roi_align_backward", "topk_select"]

DEAD = float("-inf")  # score of a candidate that is out
MAX_SAMPLES = 1 << 16  # of an adaptive bin and axis in `roi_align`
HUGE_SCALE = 2.0**-66  # brings the union of the two largest float32 boxes below 2^127
ROIS_AT_A_TIME = 64  # bounds the memory between the two products of `roi_align`


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


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Two matrix products: pooled = weights_y @ map @ weights_x^T, a few regions at a time.

    Args:
        features: (B, C, H, W) of any float type.
        rois: (B, R, 4) float32.
        output_height, output_width, spatial_scale, sampling_ratio, aligned: as in
            `poplar_ops.roi_align`.

    Returns:
        (B, R, C, h, w), of the features' dtype.
    """
    batch, channels, height, width = features.shape
    wide = features.to(sum_type(features)).reshape(batch, channels * height, width)
    pooled = [features.new_empty((batch, 0, channels, output_height, output_width))]
    with torch.autocast(features.device.type, enabled=False):
        for some in torch.split(rois, ROIS_AT_A_TIME, dim=1):
            regions = some.shape[1]
            y, x = weights(
                some, (output_height, output_width), (height, width),
                spatial_scale, sampling_ratio, aligned,
            )  # fmt: skip
            columns = x.to(wide.dtype).flatten(1, 2).transpose(1, 2)  # (B, W, r * w)
            scratch = (wide @ columns).view(batch, channels, height, regions, output_width)
            scratch = scratch.permute(0, 3, 2, 1, 4).flatten(3)  # (B, r, H, C * w)
            part = y.to(wide.dtype) @ scratch  # (B, r, h, C * w)
            part = part.view(batch, regions, output_height, channels, output_width)
            pooled.append(part.transpose(2, 3).to(features.dtype))
    return torch.cat(pooled, dim=1)


def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The transposed products: (B, R, C, h, w) -> (B, C, H, W), of the gradient's dtype."""
    batch, _, channels, bins_y, bins_x = grad.shape
    total = grad.new_zeros((batch, channels * height, width), dtype=sum_type(grad))
    with torch.autocast(grad.device.type, enabled=False):
        parts = zip(
            torch.split(grad, ROIS_AT_A_TIME, dim=1), torch.split(rois, ROIS_AT_A_TIME, dim=1)
        )
        for part, some in parts:
            regions = some.shape[1]
            y, x = weights(
                some, (bins_y, bins_x), (height, width), spatial_scale, sampling_ratio, aligned
            )
            rows = part.to(total.dtype).transpose(2, 3).flatten(3)  # (B, r, h, C * w)
            scratch = y.to(total.dtype).transpose(2, 3) @ rows  # (B, r, H, C * w)
            scratch = scratch.view(batch, regions, height, channels, bins_x)
            scratch = scratch.permute(0, 3, 2, 1, 4).reshape(
                batch, channels * height, regions * bins_x
            )
            total = total + scratch @ x.to(total.dtype).flatten(1, 2)
    return total.view(batch, channels, height, width).to(grad.dtype)


def sum_type(x: Tensor) -> torch.dtype:
    """float64 for float64, which only tests of gradients use; else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def weights(
    rois: Tensor,
    bins: Tuple[int, int],
    size: Tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tuple[Tensor, Tensor]:
    """What every bin takes of every row (B, R, h, H) and of every column (B, R, w, W), float32."""
    corners = rois * spatial_scale - (0.5 if aligned else 0.0)
    x1, y1, x2, y2 = corners.unbind(-1)  # (B, R) each
    length_y, length_x = y2 - y1, x2 - x1
    if not aligned:
        length_y = length_y.masked_fill(length_y < 1, 1.0)  # not clamp: a NaN stays one
        length_x = length_x.masked_fill(length_x < 1, 1.0)
    return (
        axis_weights(y1, length_y, bins[0], size[0], sampling_ratio),
        axis_weights(x1, length_x, bins[1], size[1], sampling_ratio),
    )


def axis_weights(
    start: Tensor, length: Tensor, bins: int, size: int, sampling_ratio: int
) -> Tensor:
    """(B, R) spans in cells -> (B, R, bins, size) weights, each bin's at most 1 together.

    With adaptive sampling the number of samples differs from region to region. Those that touch
    one cell stand less than two cells apart and mostly more than half a cell from each other, so
    a few candidates round the first of them are enough, and shapes stay static.
    """
    cells = torch.arange(size, device=start.device, dtype=start.dtype)
    bin_size = (length / bins)[..., None, None, None]  # (B, R, 1, 1, 1): bin, cell, sample
    number = torch.arange(bins, device=start.device, dtype=start.dtype)
    origin = start[..., None, None, None] + number[:, None, None] * bin_size
    if sampling_ratio > 0:
        sample = torch.arange(sampling_ratio, device=start.device, dtype=start.dtype)
        count = torch.full_like(bin_size, float(sampling_ratio))
    else:
        count = bin_size.ceil().clamp(0, MAX_SAMPLES)
        first = (cells[:, None] - 1 - origin) / (bin_size / count) - 0.5
        sample = first.floor().clamp(min=0) + torch.arange(
            -1, 7, device=start.device, dtype=start.dtype
        )
    position = origin + (sample + 0.5) * bin_size / count
    is_on_map = (position >= -1) & (position <= size) & (sample >= 0) & (sample < count)
    distance = (position.clamp(0, size - 1) - cells[:, None]).abs()
    share = (1 - distance).clamp(min=0) / count
    return share.where(is_on_map, torch.zeros_like(share)).sum(-1)
