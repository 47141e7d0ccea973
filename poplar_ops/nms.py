"""Non-maximum suppression with one contract on host, GPU and IPU.

B images, N boxes, C classes, K = max_detections. Boxes are xyxy, any unit.
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from poplar_ops import ipu_library, library, plain
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["Detections", "nms"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = torch.finfo(torch.float32).max  # thresholds are float32 on every path


class Detections(NamedTuple):
    """The boxes that were kept, best first, padded to K rows an image."""

    boxes: Tensor
    """(B, K, 4) float32; padding 0."""
    scores: Tensor
    """(B, K) float32, after decay; padding 0."""
    labels: Tensor
    """(B, K) int32; padding -1."""
    indices: Tensor
    """(B, K) int32, rows of the input boxes; padding -1."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    """(B,) int32, rows that are not padding."""


class Config(ctypes.Structure):
    """Settings as the library takes them; the layout of `NmsConfig` in `csrc/host`."""

    _fields_ = (
        ("iou_threshold", ctypes.c_float),
        ("score_threshold", ctypes.c_float),
        ("sigma", ctypes.c_double),
        ("class_aware", ctypes.c_int32),
    )


def nms(
    scores: Tensor,
    boxes: Tensor,
    labels: Optional[Tensor] = None,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    max_detections: int = 100,
    class_aware: bool = True,
    sigma: float = 0.0,
) -> Detections:
    """Keep the best boxes of every image and drop, or decay, those that overlap them.

    Repeats for every image on its own: take the best remaining score (the lowest index where
    scores tie; (n, c) counts as n * C + c), keep its box, then drop every remaining box of the same
    class whose IoU with it is greater than `iou_threshold`. With `sigma` > 0 nothing is dropped
    (soft-NMS, arXiv:1704.04503): scores of the class decay by exp(-IoU^2 / sigma), whatever
    `iou_threshold` is. Arithmetic is float32 whatever the inputs are; no gradient flows.

    An empty, reversed or non-finite box overlaps nothing; a NaN score is never kept. Areas do not
    overflow: see docs/custom_ops.md.

    Args:
        scores: (B, N) with `labels`, or (B, N, C) with a score per class; float32, float16 or
            bfloat16.
        boxes: (B, N, 4), float32, float16 or bfloat16.
        labels: (B, N) int32 or int64; None with (B, N) scores means one class, 0.
        iou_threshold: drop above it; 0 to 1.
        score_threshold: keep above it, after decay.
        max_detections: K, at least 1; may exceed N.
        class_aware: False lets boxes of different classes suppress each other.
        sigma: 0, or the width of the gaussian; then `score_threshold` must not be negative.

    Raises:
        ValueError: a shape does not fit, or a setting is out of range.
        TypeError: a dtype is none of those above.
    """
    check_tensors(scores, boxes, labels)
    check_settings(iou_threshold, score_threshold, max_detections, sigma)
    if scores.dim() == 2:
        scores = scores.unsqueeze(-1)
    if labels is None:
        labels = scores.new_zeros(scores.shape[:2], dtype=torch.int32)
    if scores.requires_grad or boxes.requires_grad:
        scores, boxes = scores.detach(), boxes.detach()
    scores, boxes, labels = scores.float(), boxes.float(), labels.int()
    settings: Dict[str, Any] = {
        "iou_threshold": float(iou_threshold),
        "score_threshold": float(score_threshold),
        "max_detections": int(max_detections),
        "class_aware": bool(class_aware),
        "sigma": float(sigma),
    }
    if poptorch.isRunningOnIpu():
        return run_custom_op(scores, boxes, labels, settings)
    operands = [scores.contiguous(), boxes.contiguous(), labels.contiguous()]
    return Detections(*torch.ops.poplar_ops.nms(*operands, *settings.values()))


def check_tensors(scores: Tensor, boxes: Tensor, labels: Optional[Tensor]) -> None:
    """Refuse shapes and dtypes that the contract does not name."""
    if scores.dim() not in (2, 3):
        raise ValueError(f"scores must be (B, N) or (B, N, C), got {tuple(scores.shape)}")
    batch, num_boxes = scores.shape[:2]
    if tuple(boxes.shape) != (batch, num_boxes, 4):
        raise ValueError(
            f"boxes must be (B, N, 4) with B, N = {batch}, {num_boxes} as in scores,"
            f" got {tuple(boxes.shape)}"
        )
    if scores.dtype not in FLOATS or boxes.dtype not in FLOATS:
        raise TypeError(
            "scores and boxes must be float32, float16 or bfloat16,"
            f" got {scores.dtype} and {boxes.dtype}"
        )
    if labels is None:
        return
    if scores.dim() == 3:
        raise ValueError("scores (B, N, C) imply the labels 0..C-1: give no labels, or (B, N)")
    if tuple(labels.shape) != (batch, num_boxes):
        raise ValueError(f"labels must be (B, N) as in scores, got {tuple(labels.shape)}")
    if labels.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"labels must be int32 or int64, got {labels.dtype}")


def check_settings(
    iou_threshold: float, score_threshold: float, max_detections: int, sigma: float
) -> None:
    """Refuse settings out of range; NaN is out of every range."""
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be from 0 to 1, got {iou_threshold}")
    if not -LARGEST <= score_threshold <= LARGEST:
        raise ValueError(f"score_threshold must be a finite float32, got {score_threshold}")
    if max_detections < 1:
        raise ValueError(f"max_detections must be at least 1, got {max_detections}")
    if not 0 <= sigma <= LARGEST:
        raise ValueError(f"sigma must be 0 (hard) or a positive number, got {sigma}")
    if sigma > 0 and score_threshold < 0:
        raise ValueError(
            f"score_threshold must not be negative with sigma > 0, got {score_threshold}:"
            " a negative score would grow as it decays"
        )


def run_custom_op(
    scores: Tensor, boxes: Tensor, labels: Tensor, settings: Dict[str, Any]
) -> Detections:
    """The same as a node of the IPU's graph, which takes one score a box: (B, N * C).

    PopTorch copies attributes by their Python type, so each has the type the operator reads.
    """
    if not IS_HOST:
        ipu_library.load()
    batch, num_boxes, num_classes = scores.shape
    rows = settings["max_detections"]
    if num_classes > 1:
        classes = torch.arange(num_classes, dtype=torch.int32, device=labels.device)
        boxes = boxes.unsqueeze(2).expand(batch, num_boxes, num_classes, 4)
        boxes = boxes.reshape(batch, num_boxes * num_classes, 4)
        labels = (labels.unsqueeze(2) + classes).reshape(batch, num_boxes * num_classes)
    outputs = poptorch.custom_op(
        [scores.reshape(batch, num_boxes * num_classes), boxes, labels],
        name="Nms",
        domain="poplar_ops",
        domain_version=1,
        attributes={**settings, "class_aware": int(settings["class_aware"])},
        example_outputs=[
            scores.new_zeros((batch, rows, 4)),
            scores.new_zeros((batch, rows)),
            labels.new_zeros((batch, rows)),
            labels.new_zeros((batch, rows)),
            labels.new_zeros((batch,)),
        ],
    )
    detections = Detections(*outputs)
    if num_classes > 1:
        candidates = detections.indices
        anchors = torch.div(candidates, num_classes, rounding_mode="floor")
        detections = detections._replace(indices=torch.where(candidates < 0, candidates, anchors))
    return detections


def run_on_host(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
    """What `poptorch_host` runs in place of the IPU's operator."""
    scores, boxes, labels = inputs
    settings = {**attributes, "class_aware": bool(attributes["class_aware"])}
    operands = [scores.unsqueeze(-1).contiguous(), boxes.contiguous(), labels.contiguous()]
    return list(torch.ops.poplar_ops.nms(*operands, **settings))


Results = Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def run_compiled(
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
    class_aware: bool,
    sigma: float,
) -> Results:
    """The library's kernel on CPU tensors."""
    results = empty_results(scores, max_detections)
    config = Config(iou_threshold, score_threshold, sigma, class_aware)
    library.run("poplar_ops_nms", scores, boxes, labels, config, *results)
    return results


def fake(
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
    class_aware: bool,
    sigma: float,
) -> Results:
    """Shapes and dtypes of the results."""
    return empty_results(scores, max_detections)


def empty_results(scores: Tensor, max_detections: int) -> Results:
    """Uninitialised boxes, scores, labels, indices and count."""
    batch, rows = scores.shape[0], max_detections
    return (
        scores.new_empty((batch, rows, 4)),
        scores.new_empty((batch, rows)),
        scores.new_empty((batch, rows), dtype=torch.int32),
        scores.new_empty((batch, rows), dtype=torch.int32),
        scores.new_empty((batch,), dtype=torch.int32),
    )


library.define(
    "nms",
    "(Tensor scores, Tensor boxes, Tensor labels, float iou_threshold, float score_threshold,"
    " int max_detections, bool class_aware, float sigma)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    compiled=run_compiled,
    plain=plain.nms,
    fake=fake,
)
if IS_HOST:
    from poptorch_host import host

    host.register_custom_op("poplar_ops", "Nms", run_on_host, version=1)
