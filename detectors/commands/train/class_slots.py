"""Which output of a model is which class: one after another, or at COCO's ids with holes between.

AutoML's and effdet's detectors have an output for each of COCO's ids 1 to 90, ten of which no
category has. A model with the same slots takes their weights unchanged, and label + 1 is the id.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from detectors.weights.coco_names import COCO_90

__all__ = ["ClassSlots", "class_slots"]

MOST = 2000
"""Slots: ids beyond that are keys of somebody's database."""


class ClassSlots(NamedTuple):
    """The classes of a model made for some data."""

    names: Tuple[Optional[str], ...]
    """By the model's label; None for a slot that no class has."""
    labels: Optional[Tuple[int, ...]]
    """The model's label of each of the data's; None where they are the same."""


def class_slots(names: Sequence[str], category_ids: Sequence[int], labels: str) -> ClassSlots:
    """The slots that `data.labels` asks for.

    Args:
        names: of the data, by label.
        category_ids: of each.
        labels: "order", or "ids": a class has the slot id - 1. COCO's own categories, or some of
            them, have 90 slots; others as many as their largest id.

    Raises:
        ValueError: ids that cannot be slots.
    """
    if labels == "order":
        return ClassSlots(tuple(names), None)
    bad = [number for number in category_ids if not 1 <= number <= MOST]
    if bad:
        raise ValueError(
            f"data.labels=ids makes an output of a model of each category id from 1, at most {MOST}"
            f" of them; the data has the id {bad[0]}: data.labels=order numbers the classes"
        )
    slots: List[Optional[str]] = [None] * max(category_ids, default=0)
    for name, number in zip(names, category_ids):
        slots[number - 1] = name
    if all(name in (None, official) for name, official in zip(slots, COCO_90)):
        slots += [None] * (len(COCO_90) - len(slots))
    return ClassSlots(tuple(slots), tuple(number - 1 for number in category_ids))
