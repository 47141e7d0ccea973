"""What every output format writes and reads: one picture's detections, and the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Sequence, Tuple

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
    """The classes of a model: names by label, and the ids that COCO files use for them (label + 1).

    Args:
        names: one per label; None for a slot of the head that belongs to no class (COCO has ten).
    """

    def __init__(self, names: Sequence[Optional[str]]) -> None:
        self.names = tuple(name or f"unused {label + 1}" for label, name in enumerate(names))
        self.labels = {name: label for label, name in enumerate(self.names)}
        if len(self.labels) != len(self.names):
            doubled = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"class names must differ, but {doubled} occur more than once")

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
