"""Weights of any origin in our models: `load_weights`, `load`, `save`, and `fetch` to get them."""

from __future__ import annotations

from detectors.weights.checkpoint import make_record, save
from detectors.weights.download import fetch
from detectors.weights.load import load, load_checkpoint, load_weights
from detectors.weights.report import LoadReport

__all__ = [
    "LoadReport",
    "fetch",
    "load",
    "load_checkpoint",
    "load_weights",
    "make_record",
    "save",
]
