"""Operators that PyTorch lacks or runs slowly, compiled for the host and as IPU custom ops."""

from __future__ import annotations

from poplar_ops.library import backend
from poplar_ops.nms import Detections, nms
from poplar_ops.roi_align import roi_align
from poplar_ops.topk import Selection, topk_select

__all__ = ["nms", "Detections", "topk_select", "Selection", "roi_align", "backend"]
