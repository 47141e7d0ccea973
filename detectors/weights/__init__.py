"""Weights of any origin in our models: `load_weights`, `load`, `save`, and `fetch` to get them."""

from __future__ import annotations

from detectors.weights.checkpoint import save
from detectors.weights.download import fetch
from detectors.weights.load import load, load_weights
from detectors.weights.report import LoadReport

__all__ = ["LoadReport", "fetch", "load", "load_weights", "save"]
