"""Pictures and boxes as they are on disk, and the way back to it; knows no model."""

from __future__ import annotations

__all__ = ["collate", "drawing", "folder", "formats", "generated", "sample", "transforms"]
