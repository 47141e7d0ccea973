"""Category ids: the numbers by which the annotations of a detector's data know its classes.

By label, as class names are: one for each output, None for an output that no class has. COCO's go
from 1 to 90 with holes, so a detector of its 80 classes alone cannot count them. Where nothing says
the ids, label + 1 stands for them.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from detectors.weights.coco_names import COCO_90

__all__ = ["CategoryIds", "checked_ids", "coco_ids", "read_ids"]

CategoryIds = Optional[Tuple[Optional[int], ...]]
Names = Optional[Sequence[Optional[str]]]


def coco_ids(names: Names) -> CategoryIds:
    """COCO's ids of its classes; None where a name is not one of them, or there are no names."""
    ids = {name: label + 1 for label, name in enumerate(COCO_90) if name is not None}
    if names is None or any(name is not None and name not in ids for name in names):
        return None
    return tuple(None if name is None else ids[name] for name in names)


def checked_ids(
    ids: Optional[Sequence[Optional[int]]], names: Names, num_classes: int
) -> CategoryIds:
    """Ids by label that can stand in a record.

    Args:
        ids: by label; None where nothing says them.
        names: of the classes by label, where they are known.
        num_classes: outputs of the model.

    Raises:
        ValueError: another number of them, one that two classes have, none for a class, or one for
            an output that no class has.
    """
    if ids is None:
        return None
    if len(ids) != num_classes:
        raise ValueError(f"category_ids has {len(ids)} ids, the model {num_classes} classes")
    known = [number for number in ids if number is not None]
    if not all(isinstance(number, int) for number in known):
        raise ValueError(f"category_ids must be whole numbers or None, got {list(ids)}")
    doubled = sorted({number for number in known if known.count(number) > 1})
    if doubled:
        raise ValueError(f"category_ids must differ, but {doubled} occur more than once")
    for label, (name, number) in enumerate(zip(names or (), ids)):
        if (name is None) != (number is None):
            raise ValueError(
                f"category_ids has {number} for label {label}, whose name is {name}: an id for"
                " each class, and None for an output that no class has"
            )
    return tuple(ids)


def read_ids(ids: Optional[Sequence[Optional[int]]], names: Names, num_classes: int) -> CategoryIds:
    """The ids of a record that was read; arguments and errors as `checked_ids`.

    Trainings on outputs for COCO's ids (`data.labels=ids`) once wrote one id for each class, in the
    order of the data and without the holes. There an id is the label + 1.
    """
    if ids is None:
        return None
    slots = [None if name is None else label + 1 for label, name in enumerate(names or ())]
    if len(ids) < num_classes == len(slots) and set(ids) == {*slots} - {None}:
        ids = slots
    return checked_ids(ids, names, num_classes)
