"""The operators as their contracts say them: slow and obvious, for tests to compare with.

One image, one candidate, one detection, one sample at a time.
"""

from __future__ import annotations

import math
from typing import List, Tuple

import torch
from torch import Tensor

__all__ = ["iou", "nms", "roi_align", "topk_select"]

HUGE_SCALE = 2.0**-66


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) that broadcast, (...) float32.

    Where the union overflows float32, the same of both boxes scaled by 2^-66.
    """
    small_a, small_b = a * HUGE_SCALE, b * HUGE_SCALE
    shared, small_shared = intersection(a, b), intersection(small_a, small_b)
    together = (area(a) + area(b)) - shared
    small_together = (area(small_a) + area(small_b)) - small_shared
    return torch.where(together.isfinite(), shared / together, small_shared / small_together)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared areas of boxes (..., 4) that broadcast, (...)."""
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def area(boxes: Tensor) -> Tensor:
    """Areas of boxes (..., 4), (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


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
    """The contract of `poplar_ops.nms`, on scores (B, N, C), boxes (B, N, 4) and labels (B, N)."""
    batch = scores.shape[0]
    out_boxes = torch.zeros(batch, max_detections, 4)
    out_scores = torch.zeros(batch, max_detections)
    out_labels = torch.full((batch, max_detections), -1, dtype=torch.int32)
    out_indices = torch.full((batch, max_detections), -1, dtype=torch.int32)
    count = torch.zeros(batch, dtype=torch.int32)
    for image in range(batch):
        one = nms_of_image(
            scores[image].float(), boxes[image].float(), labels[image],
            iou_threshold, score_threshold, max_detections, class_aware, sigma,
        )  # fmt: skip
        for row, (index, label, score) in enumerate(one):
            out_boxes[image, row] = boxes[image, index].float()
            out_scores[image, row] = score
            out_labels[image, row] = label
            out_indices[image, row] = index
        count[image] = len(one)
    return out_boxes, out_scores, out_labels, out_indices, count


def nms_of_image(
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
    class_aware: bool,
    sigma: float,
) -> List[Tuple[int, int, float]]:
    """(index of the box, label, score) of what is kept in one image, best first."""
    num_boxes, num_classes = scores.shape
    rows = torch.arange(num_boxes).unsqueeze(1).expand(num_boxes, num_classes).flatten()
    classes = (labels.unsqueeze(1) + torch.arange(num_classes)).flatten()
    overlap = iou(boxes[rows].unsqueeze(1), boxes[rows])  # (M, M) for M candidates
    if class_aware:
        overlap = overlap.masked_fill(classes.unsqueeze(1) != classes, 0)
    current = scores.flatten().clone()
    alive = current > score_threshold
    kept: List[Tuple[int, int, float]] = []
    while alive.any() and len(kept) < max_detections:
        values = current.tolist()
        best = min(alive.nonzero().flatten().tolist(), key=lambda i: (-values[i], i))
        kept.append((int(rows[best]), int(classes[best]), values[best]))
        alive[best] = False
        if sigma > 0:
            decay = torch.exp(-(overlap[best].double() ** 2) / sigma).float()
            current = torch.where(overlap[best] > 0, current * decay, current)
            alive &= current > score_threshold
        else:
            alive &= ~(overlap[best] > iou_threshold)
    return kept


def topk_select(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """The contract of `poplar_ops.topk_select`: a stable sort in which NaN counts as -infinity."""
    order = torch.sort(x.masked_fill(x.isnan(), -torch.inf), dim=1, descending=True, stable=True)
    indices = order.indices[:, :k]
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
    """The contract of `poplar_ops.roi_align`, differentiable in features of any float type.

    Torchvision's formula as published: every bin is the mean of its samples, every sample is a
    bilinear mean of four cells, or 0 more than one cell off the map.
    """
    batch, regions = rois.shape[:2]
    pooled = [
        roi_align_of_region(
            features[image], rois[image, region], (output_height, output_width),
            spatial_scale, sampling_ratio, aligned,
        )
        for image in range(batch)
        for region in range(regions)
    ]  # fmt: skip
    shape = (batch, regions, features.shape[1], output_height, output_width)
    return torch.stack(pooled).view(shape) if pooled else features.new_zeros(shape)


def roi_align_of_region(
    features: Tensor,
    roi: Tensor,
    bins: Tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """(C, H, W) and one region (4,) -> (C, h, w)."""
    x1, y1, x2, y2 = roi * spatial_scale - (0.5 if aligned else 0.0)
    rows = sample_positions(y1, y2 - y1, bins[0], sampling_ratio, aligned)
    columns = sample_positions(x1, x2 - x1, bins[1], sampling_ratio, aligned)
    values = []
    for y_of_bin in rows:
        for x_of_bin in columns:
            total = features.new_zeros(features.shape[:1])
            for y in y_of_bin:
                for x in x_of_bin:
                    total = total + bilinear(features, y, x)
            values.append(total / max(len(y_of_bin) * len(x_of_bin), 1))
    return torch.stack(values, dim=1).view(-1, *bins)


def sample_positions(
    start: Tensor, length: Tensor, bins: int, sampling_ratio: int, aligned: bool
) -> List[List[float]]:
    """Positions of every bin's samples along one axis, in cells; each operation in float32."""
    if not aligned and length < 1:
        length = torch.ones_like(length)
    bin_size = length / bins
    samples = sampling_ratio
    if samples == 0:
        adaptive = float(bin_size.ceil())
        samples = int(min(adaptive, 1 << 16)) if 0 < adaptive < math.inf else 0
    index = torch.arange(samples, dtype=torch.float32) + 0.5
    return [
        (start + number * bin_size + index * bin_size / samples).tolist() for number in range(bins)
    ]


def bilinear(features: Tensor, y: float, x: float) -> Tensor:
    """The value (C,) of a map (C, H, W) between its cells."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return features.new_zeros(features.shape[:1])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    low, right_share = y - top, x - left
    upper = (1 - right_share) * features[:, top, left] + right_share * features[:, top, right]
    lower = (1 - right_share) * features[:, bottom, left] + right_share * features[:, bottom, right]
    return (1 - low) * upper + low * lower
