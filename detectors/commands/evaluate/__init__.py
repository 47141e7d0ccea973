"""Scoring detections: of a model while it trains, of a checkpoint, of a file."""
