"""How good detections are: VOC's and COCO's average precision, with intervals; knows no model."""

from __future__ import annotations

__all__ = ["coco", "found", "intervals", "ranking", "results", "scores", "stored", "voc"]
