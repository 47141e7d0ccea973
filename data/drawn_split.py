"""Train and val drawn by a seed, for data that nobody has split; and what splits are called."""

from __future__ import annotations

import hashlib
from typing import Dict, List, Sequence, Tuple

__all__ = ["DRAWN", "SPELLINGS", "draw", "how_drawn"]

DRAWN = ("train", "val", "trainval", "all")
"""Sets that data without a split has."""
SPELLINGS: Dict[str, Tuple[str, ...]] = {"val": ("val", "valid", "validation")}
"""Set -> what its file or folder may be called."""


def draw(names: Sequence[str], part: str, seed: int, validation: float) -> List[str]:
    """The pictures of a set, in their order: those of the `validation` share with the smallest
    hashes are val, so that a few new files change the side of few others.

    Args:
        names: of all pictures, or of their annotation files.
        part: one of `DRAWN`.
        seed: another one draws others.
        validation: share that is val, 0..1.
    """
    if part in ("trainval", "all"):
        return list(names)
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    held_out = set(order[: round(len(order) * validation)])
    return [name for name in names if (name in held_out) == (part == "val")]


def how_drawn(nothing: str, seed: int, validation: float) -> str:
    """`no ImageSets: split 80% train, 20% val by seed 0`"""
    share = f"{1 - validation:.0%} train, {validation:.0%} val"
    return f"{nothing}: split {share} by seed {seed}"
