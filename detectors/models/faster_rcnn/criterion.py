"""What the two stages are trained on, and their losses (arXiv:1506.01497, sec. 3.1.2).

B images, N anchors, G boxes after padding, K proposals, S samples, C classes. Shapes are fixed:
samples that are not to be had are there, and not valid.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from detectors.boxes import box_area, encode_where
from detectors.losses import binary_cross_entropy, cross_entropy, smooth_l1
from detectors.matching import MatchConfig, match_boxes
from detectors.models.faster_rcnn.box_head import to_units
from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.postprocess import gather_rows
from detectors.sampling import draw_samples, random_numbers

__all__ = ["Regions", "Truth", "draw_regions", "region_losses", "rpn_losses"]


class Truth(NamedTuple):
    """What is in the images, and what makes their samples."""

    boxes: Tensor
    """(B, G, 4) float32."""
    labels: Tensor
    """(B, G) integers; -1 is padding (zero box) or a region to ignore."""
    keys: Tensor
    """(B,) int32; the samples drawn from an image depend on its key alone."""


class Regions(NamedTuple):
    """S regions of each image for the second stage."""

    boxes: Tensor
    """(B, S, 4)."""
    labels: Tensor
    """(B, S) int32, 0..C-1, or C for background."""
    targets: Tensor
    """(B, S, 4) deltas in units; of no meaning where not positive."""
    positive: Tensor
    """(B, S) bool."""
    valid: Tensor
    """(B, S) bool."""


def rpn_losses(
    objectness: Tensor, deltas: Tensor, anchors: Tensor, truth: Truth, config: FasterRCNNConfig
) -> Tuple[Tensor, Tensor]:
    """Losses of the first stage over sampled anchors.

    Args:
        objectness: (B, N) logits.
        deltas: (B, N, 4).
        anchors: (N, 4).
        truth: what is in the images.
        config: `rpn` and `image_size` count.

    Returns:
        objectness: () cross-entropy.
        boxes: () smooth-L1 of positive anchors.
    """
    rpn = config.rpn
    thresholds = MatchConfig(rpn.positive, rpn.negative, low_quality=True)
    allowed = is_inside(anchors, config.image_size) if rpn.inside_only else None
    matches = match_boxes(anchors, truth.boxes, truth.labels, thresholds, allowed)
    samples = draw_samples(
        matches.state,
        random_numbers(truth.keys, len(anchors), stream=0),
        rpn.num_samples,
        int(rpn.num_samples * rpn.positive_fraction),
    )
    index = samples.index
    sampled = anchors.index_select(0, index.reshape(-1)).reshape(*index.shape, 4)
    matched = gather_rows([truth.boxes], matches.index.gather(1, index.long()))
    targets = encode_where(samples.positive, matched, sampled)
    if rpn.divide_by == "valid":
        count = samples.valid.float().sum().clamp(min=1)
    else:
        count = torch.full_like(objectness[0, 0], float(rpn.num_samples * len(objectness)))
    logits = gather_rows([objectness[..., None]], index)[..., 0]  # (B, S)
    class_loss = binary_cross_entropy(logits, samples.positive, samples.valid)
    box_loss = smooth_l1(gather_rows([deltas], index), targets, samples.positive, rpn.beta)
    return class_loss / count, box_loss / count


def draw_regions(proposals: Tensor, truth: Truth, config: FasterRCNNConfig) -> Regions:
    """Choose what the second stage is trained on, and its targets.

    Args:
        proposals: (B, K, 4); zero boxes are padding.
        truth: what is in the images.
        config: `box_head` and `num_classes` count.
    """
    head = config.box_head
    if head.append_boxes:
        is_box = (truth.labels >= 0)[..., None]
        own = torch.where(is_box, truth.boxes, torch.zeros_like(truth.boxes))
        proposals = torch.cat([proposals, own], dim=1)
    matches = match_boxes(
        proposals,
        truth.boxes,
        truth.labels,
        MatchConfig(head.positive, head.positive),
        allowed=box_area(proposals) > 0,
    )
    index, positive, valid = draw_samples(
        matches.state,
        random_numbers(truth.keys, proposals.shape[1], stream=1),
        head.num_samples,
        int(head.num_samples * head.positive_fraction),
    )
    boxes = gather_rows([proposals], index)
    row = matches.index.gather(1, index.long())  # (B, S)
    labels = truth.labels.int().gather(1, row.long())
    labels = torch.where(positive, labels, torch.full_like(labels, config.num_classes))
    targets = encode_where(positive, gather_rows([truth.boxes], row), boxes)
    return Regions(boxes, labels, to_units(targets), positive, valid)


def region_losses(
    class_logits: Tensor, box_deltas: Tensor, regions: Regions, beta: float
) -> Tuple[Tensor, Tensor]:
    """Losses of the second stage, divided by the number of valid regions.

    Args:
        class_logits: (B, S, C + 1).
        box_deltas: (B, S, C, 4), in units; those of a positive's own class count.
        regions: what was classified.
        beta: of smooth-L1.

    Returns:
        classes: () cross-entropy.
        boxes: () smooth-L1 of positive regions.
    """
    count = regions.valid.float().sum().clamp(min=1)
    class_loss = cross_entropy(class_logits, regions.labels, regions.valid)
    own = regions.labels.clamp(max=box_deltas.shape[2] - 1).long()
    own = own[..., None, None].expand(*own.shape, 1, 4)
    deltas = box_deltas.gather(2, own)[:, :, 0]  # (B, S, 4)
    box_loss = smooth_l1(deltas, regions.targets, regions.positive, beta)
    return class_loss / count, box_loss / count


def is_inside(boxes: Tensor, size: Tuple[int, int]) -> Tensor:
    """Whether boxes (..., 4) lie in an image of `size` (height, width)."""
    height, width = size
    starts = (boxes[..., 0] >= 0) & (boxes[..., 1] >= 0)
    return starts & (boxes[..., 2] <= width) & (boxes[..., 3] <= height)
