"""From logits and deltas to a fixed number of detections: top-k, decode, NMS; in float32.

B images, N anchors of all levels (N_l of one), C classes, K candidates, D detections. Boxes are
xyxy pixels of the network input. Candidates rank by logit: sigmoids saturate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn

from detectors.anchors import AnchorGrid
from detectors.boxes import clip_boxes, decode_boxes
from poplar_ops import nms, topk_select

__all__ = ["Candidates", "Detections", "Postprocess", "PostprocessConfig", "gather_rows", "select"]


class Candidates(NamedTuple):
    """What competes in NMS, in descending order of logit where `top_k` chose it."""

    boxes: Tensor
    """(B, K, 4) float32."""
    scores: Tensor
    """(B, K) float32; (B, N, C) where every class of every anchor takes part."""
    labels: Tensor
    """(B, K) int32; (B, C), and needed by nobody, where every class of every anchor takes part."""


class Detections(NamedTuple):
    """What NMS kept, in descending order of score; unused places are zero, with label -1."""

    boxes: Tensor
    """(B, D, 4) float32, xyxy pixels of the network input, not clipped to it."""
    scores: Tensor
    """(B, D) float32."""
    labels: Tensor
    """(B, D) int32, 0..C-1."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    """(B,) int32, detections of each image."""


@dataclass(frozen=True)
class PostprocessConfig:
    """Which candidates there are, and which of them stay."""

    top_k: int = 5000
    """Candidates for NMS, by logit; 0 = all anchors."""
    multiclass: bool = False
    """Every class of every anchor is a candidate, instead of the best class of each."""
    iou_threshold: float = 0.5
    """An overlap over this with a better box of the same class removes a box."""
    score_threshold: float = 0.4
    """Only scores over this stay."""
    max_detections: int = 100
    """D."""
    sigma: float = 0.0
    """Over 0: scores decay by exp(-IoU**2 / sigma) and nothing is removed for overlap."""
    class_aware: bool = True
    """Boxes of different classes do not compete."""
    clip_before_nms: bool = False
    """Clip boxes to the network input before their overlaps are computed, as effdet does."""

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"postprocess.top_k must be 0 (all) or more, got {self.top_k}")
        if self.max_detections < 1:
            raise ValueError(
                f"postprocess.max_detections must be at least 1, got {self.max_detections}"
            )
        if not 0 <= self.iou_threshold <= 1:
            raise ValueError(
                f"postprocess.iou_threshold must be from 0 to 1, got {self.iou_threshold}"
            )
        if self.sigma < 0:
            raise ValueError(f"postprocess.sigma must not be negative, got {self.sigma}")


def gather_rows(levels: Sequence[Tensor], index: Tensor) -> Tensor:
    """Rows of a pyramid by their number in the whole of it, without joining the levels first.

    Args:
        levels: one (B, N_l, X) for each level.
        index: (B, K) int32, 0..N-1.

    Returns:
        (B, K, X).
    """
    batch, rows = index.shape
    image = torch.arange(batch, dtype=index.dtype, device=index.device)[:, None]  # (B, 1)
    first = 0
    out = None
    for level in levels:
        size = level.shape[1]
        local = index - first
        # Rows of other levels read some row of this one, and are then replaced.
        flat = local.clamp(0, size - 1) + image * size
        values = level.reshape(batch * size, -1).index_select(0, flat.reshape(-1))
        values = values.reshape(batch, rows, -1)
        out = values if out is None else torch.where((local >= 0)[..., None], values, out)
        first += size
    assert out is not None
    return out


def select(candidates: Candidates, config: PostprocessConfig) -> Detections:
    """NMS over candidates."""
    pairs = candidates.scores.dim() == 3
    kept = nms(
        candidates.scores,
        candidates.boxes,
        None if pairs else candidates.labels,
        iou_threshold=config.iou_threshold,
        score_threshold=config.score_threshold,
        max_detections=config.max_detections,
        class_aware=config.class_aware,
        sigma=config.sigma,
    )
    return Detections(kept.boxes, kept.scores, kept.labels, kept.count)


class Postprocess(nn.Module):
    """Network outputs to detections; no parameters.

    Args:
        anchors: (N, 4) xyxy pixels.
        image_size: pixels (height, width), for `clip_before_nms`.
        config: settings.
    """

    def __init__(
        self, anchors: Tensor, image_size: Tuple[int, int], config: PostprocessConfig
    ) -> None:
        super().__init__()
        self.anchors = AnchorGrid(anchors)
        self.image_size = image_size
        self.config = config

    def candidates(
        self, class_logits: Sequence[Tensor], box_deltas: Sequence[Tensor]
    ) -> Candidates:
        """The boxes that enter NMS.

        Args:
            class_logits: one (B, N_l, C) for each level, any float type.
            box_deltas: one (B, N_l, 4) for each level, any float type.

        Returns:
            K = min(top_k, what there is) candidates.
        """
        num_anchors = sum(level.shape[1] for level in class_logits)
        if self.config.multiclass:
            return self._every_class(class_logits, box_deltas, num_anchors)
        best = torch.cat([level.amax(dim=-1) for level in class_logits], dim=1).float()  # (B, N)
        if not self.config.top_k:
            labels = torch.cat([level.argmax(dim=-1) for level in class_logits], dim=1)
            boxes = self._decode_all(box_deltas)
            return Candidates(boxes, best.sigmoid(), labels.to(torch.int32))
        logits, index = topk_select(best, min(self.config.top_k, num_anchors))
        labels = gather_rows(class_logits, index).argmax(dim=-1)  # of K rows, not of N
        return Candidates(self._decode(box_deltas, index), logits.sigmoid(), labels.to(torch.int32))

    def _every_class(
        self, class_logits: Sequence[Tensor], box_deltas: Sequence[Tensor], num_anchors: int
    ) -> Candidates:
        batch, _, num_classes = class_logits[0].shape
        if not self.config.top_k:
            scores = torch.cat(list(class_logits), dim=1).float().sigmoid()  # (B, N, C)
            labels = torch.arange(num_classes, dtype=torch.int32, device=scores.device)
            return Candidates(self._decode_all(box_deltas), scores, labels.expand(batch, -1))
        # The k best pairs belong to the k anchors with the best classes: at most k - 1 pairs,
        # hence anchors, come before any of them. In ascending order ties keep the lowest index.
        best = torch.cat([level.amax(dim=-1) for level in class_logits], dim=1).float()  # (B, N)
        _, anchors = topk_select(best, min(self.config.top_k, num_anchors))
        anchors = anchors.sort(dim=-1).values  # (B, K)
        rows = gather_rows(class_logits, anchors).float()  # (B, K, C)
        pairs = rows.reshape(batch, -1)
        logits, pair = topk_select(pairs, min(self.config.top_k, pairs.shape[1]))
        row = pair // num_classes
        index = anchors.gather(1, row.long())
        labels = pair - row * num_classes
        return Candidates(self._decode(box_deltas, index), logits.sigmoid(), labels.to(torch.int32))

    def _decode(self, box_deltas: Sequence[Tensor], index: Tensor) -> Tensor:
        """Boxes (B, K, 4) of the anchors `index` (B, K)."""
        anchors = self.anchors()
        chosen = anchors.index_select(0, index.reshape(-1)).reshape(*index.shape, 4)
        return self._clip(decode_boxes(gather_rows(box_deltas, index).float(), chosen))

    def _decode_all(self, box_deltas: Sequence[Tensor]) -> Tensor:
        """Boxes (B, N, 4) of all anchors."""
        deltas = torch.cat(list(box_deltas), dim=1).float()
        return self._clip(decode_boxes(deltas, self.anchors()))

    def _clip(self, boxes: Tensor) -> Tensor:
        return clip_boxes(boxes, self.image_size) if self.config.clip_before_nms else boxes

    def select(self, candidates: Candidates) -> Detections:
        """NMS over candidates; in the graph or, on the candidates it returned, on the host."""
        return select(candidates, self.config)

    def forward(self, class_logits: List[Tensor], box_deltas: List[Tensor]) -> Detections:
        """The network's outputs -> D detections for each image; shapes as `candidates`."""
        return self.select(self.candidates(class_logits, box_deltas))
