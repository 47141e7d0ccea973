"""What every output format writes and reads: one picture's detections, and the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Optional, Protocol, Sequence, Tuple, TypeVar

__all__ = ["Box", "Classes", "ImageDetections", "Writer"]

Box = Tuple[float, float, float, float]
"""xyxy, continuous pixels of the picture on disk, origin top left; no +1 anywhere."""


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one picture, best first; there may be none."""

    file: str
    """Name of the picture, parts joined by '/'."""
    image_id: int
    """COCO's `image_id`; 0 where a format does not keep it."""
    width: int
    """Pixels on disk after EXIF rotation; 0 where a format does not keep it."""
    height: int
    """As `width`."""
    labels: Tuple[int, ...] = ()
    """Indices into `Classes.names`."""
    scores: Tuple[float, ...] = ()
    """As the model gave them, never rounded: rounding makes ties."""
    boxes: Tuple[Box, ...] = ()
    """One per label."""


class Classes:
    """The classes of a model: names by label, and the ids that COCO files use for them.

    An id is what the annotations of the model's data have where that is known, else label + 1. A
    slot of the head that belongs to no class (COCO has ten) is called `unused <label + 1>`, and has
    that id, or where a class has it one beyond all others: no two labels share an id.

    Args:
        names: one per label; None for a slot without a class.
        ids: one per label, None for a slot without a class; or None: nothing says them.

    Raises:
        ValueError: two labels with one name or one id, or other numbers of them.
    """

    def __init__(
        self, names: Sequence[Optional[str]], ids: Optional[Sequence[Optional[int]]] = None
    ) -> None:
        if ids is not None and len(ids) != len(names):
            raise ValueError(f"there are {len(names)} class names, but {len(ids)} ids")
        self.names = tuple(name or f"unused {label + 1}" for label, name in enumerate(names))
        self.labels = distinct(self.names, "names")
        self.unused: FrozenSet[int] = frozenset(
            label for label, name in enumerate(names) if name is None
        )
        """Slots without a class."""
        self.ids = with_unused([None] * len(names) if ids is None else ids)
        self.of_data = ids is not None
        """Whether the ids are those of the model's data."""
        self.label_of = distinct(self.ids, "ids")
        """Label by id."""

    def __len__(self) -> int:
        return len(self.names)

    def label(self, name: str, source: str) -> int:
        """The label of a name that was read from `source`.

        Raises:
            ValueError: no such class.
        """
        if name not in self.labels:
            raise ValueError(f"{source}: no class '{name}' among {len(self)} names")
        return self.labels[name]


Key = TypeVar("Key", str, int)


def distinct(keys: Sequence[Key], what: str) -> Dict[Key, int]:
    """Label by name or id; what labels share is refused."""
    labels = {key: label for label, key in enumerate(keys)}
    if len(labels) != len(keys):
        doubled = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"class {what} must differ, but {doubled} occur more than once")
    return labels


def with_unused(ids: Sequence[Optional[int]]) -> Tuple[int, ...]:
    """Ids with one for each label that has none."""
    known = {number for number in ids if number is not None}
    beyond = max([len(ids), *known])
    own = (label + 1 if label + 1 not in known else beyond + label + 1 for label in range(len(ids)))
    return tuple(new if number is None else number for number, new in zip(ids, own))


class Writer(Protocol):
    """Writes one format; its files are complete after every `write` and take their names at
    `close`.
    """

    def write(self, image: ImageDetections) -> None:
        """Add a picture."""

    def close(self, unreadable: Sequence[Tuple[str, str]] = (), *, complete: bool = True) -> None:
        """Finish.

        Args:
            unreadable: name and reason of each picture that could not be read.
            complete: False where the run was stopped before the last picture.
        """
