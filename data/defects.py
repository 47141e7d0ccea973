"""What is wrong with a dataset, by kind and file: named, never repaired in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Box",
    "KINDS",
    "MAX_DROPPED",
    "Defect",
    "DefectReport",
    "Kind",
    "keep_box",
    "note_aliases",
    "note_classes",
    "note_same_names",
    "note_shared",
    "note_shares",
]

Box = Tuple[float, float, float, float]

MAX_DROPPED = 0.01
"""Share of boxes that may be left out before a dataset is refused."""
SHOWN = 3  # files named per kind on screen; all are in `defects`


class Kind(NamedTuple):
    """How bad a defect is, and how it is called."""

    stops: bool
    """Whether nothing can be trained on this."""
    text: str
    """After the number of them, for people."""


KINDS: Dict[str, Kind] = {
    "bad_file": Kind(True, "annotation files that cannot be parsed"),
    "no_name": Kind(True, "objects without a class name"),
    "no_box": Kind(True, "objects without a box"),
    "bad_line": Kind(True, "label lines that are not a class and a box"),
    "bad_number": Kind(True, "boxes with a coordinate that is not a number"),
    "no_image": Kind(True, "boxes of an image that is not listed"),
    "unknown_class": Kind(True, "objects of a class that is not in the list"),
    "shares": Kind(True, "sets whose boxes all lie within one pixel, as shares of an image do"),
    "unreadable": Kind(True, "unreadable images"),
    "missing_image": Kind(False, "annotations without an image, left out"),
    "unlabelled": Kind(False, "images without an annotation, left out"),
    "listed_twice": Kind(False, "images named more than once, counted once"),
    "same_picture": Kind(False, "images that are copies of another"),
    "leak": Kind(False, "images that are in two splits"),
    "wrong_size": Kind(False, "images whose size is not the annotated one"),
    "rotated": Kind(False, "images that EXIF turns: are their boxes of the turned image?"),
    "only_case": Kind(False, "class names that differ only in case"),
    "not_trained": Kind(False, "classes without a box in the training split"),
    "same_box": Kind(False, "boxes that are there twice, with the same class"),
    "zero_based": Kind(False, "boxes counted from 0: corners are taken as they stand"),
    "clipped": Kind(False, "boxes that reach beyond their image, clipped for training"),
    "empty": Kind(False, "boxes of zero width or height, left out"),
    "inverted": Kind(False, "boxes with minimum and maximum exchanged, left out"),
    "outside": Kind(False, "boxes wholly outside their image, left out"),
    "not_shares": Kind(False, "boxes whose numbers are not shares of their image, left out"),
}
DROPPED = ("empty", "inverted", "outside", "not_shares")


@dataclass(frozen=True)
class Defect:
    """One thing wrong in one place."""

    kind: str
    """Key of `KINDS`."""
    where: str
    """File below the dataset's root, with `:line` where it has lines; or a class name."""
    detail: str = ""
    """What stands there."""

    def __str__(self) -> str:
        return f"{self.where} ({self.detail})" if self.detail else self.where


class DefectReport:
    """All defects of a dataset, in the order found."""

    def __init__(self) -> None:
        self.defects: List[Defect] = []
        self.boxes = 0
        """Boxes seen, bad ones included."""
        self.notes: List[str] = []
        """What was decided where the dataset left it open."""
        self.tails: Dict[str, str] = {}
        """By kind: what helps to understand its defects."""

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """Note a defect."""
        assert kind in KINDS, kind
        self.defects.append(Defect(kind, where, detail))

    def of_kind(self, kind: str) -> List[Defect]:
        """All of one kind."""
        return [defect for defect in self.defects if defect.kind == kind]

    def counts(self) -> Dict[str, int]:
        """How many of each kind; kinds that do not occur are left out."""
        numbers = {kind: len(self.of_kind(kind)) for kind in KINDS}
        return {kind: number for kind, number in numbers.items() if number}

    @property
    def dropped(self) -> int:
        """Boxes left out."""
        return sum(len(self.of_kind(kind)) for kind in DROPPED)

    def lines(self) -> List[str]:
        """One line per kind that occurs: how many, what, and the first files."""
        return [self.line(kind) for kind in self.counts()]

    def line(self, kind: str) -> str:
        found = self.of_kind(kind)
        more = f", ... {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        first = ", ".join(str(defect) for defect in found[:SHOWN])
        tail = f"; {self.tails[kind]}" if kind in self.tails else ""
        return f"{len(found)} {KINDS[kind].text}: {first}{more}{tail}"

    def problem(self) -> Optional[str]:
        """Why this dataset cannot be trained on, line by line; None where it can."""
        lines = [self.line(kind) for kind in self.counts() if KINDS[kind].stops]
        if self.dropped > MAX_DROPPED * self.boxes:
            lines.append(
                f"{self.dropped} of {self.boxes} boxes are unusable, more than {MAX_DROPPED:.0%}:"
            )
            lines += [self.line(kind) for kind in DROPPED if self.of_kind(kind)]
        return "\n".join(lines) or None

    def require_sound(self) -> None:
        """Refuse what cannot be trained on.

        Raises:
            ValueError: with `problem()`.
        """
        problem = self.problem()
        if problem is not None:
            raise ValueError(problem)


def keep_box(box: Box, size: Tuple[int, int], report: DefectReport, where: str) -> Optional[Box]:
    """A box as it is, or None where nothing of it lies in its picture; what is odd is noted.

    A box that reaches beyond its picture stays as annotated: evaluators judge by that. Samples have
    it clipped.

    Args:
        box: xyxy, continuous pixels.
        size: (height, width) of the picture.
        report: where to note it.
        where: file and line.
    """
    report.boxes += 1
    x1, y1, x2, y2 = box
    detail = " ".join(f"{value:g}" for value in box)
    if x2 < x1 or y2 < y1:
        report.add("inverted", where, detail)
        return None
    if x1 == x2 or y1 == y2:
        report.add("empty", where, detail)
        return None
    height, width = size
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        report.add("outside", where, f"{detail} in {width}x{height}")
        return None
    if inside != box:
        report.add("clipped", where, f"{detail} in {width}x{height}")
    return box


def note_classes(names: Sequence[str], trained: Set[str], split: str, report: DefectReport) -> None:
    """Note class names that differ only in case, and classes without a box to train on."""
    by_case: Dict[str, List[str]] = {}
    for name in names:
        by_case.setdefault(name.lower(), []).append(name)
    for same in by_case.values():
        if len(same) > 1:
            target, *others = sorted(same, key=lambda name: (name != name.lower(), name))
            alias = ", ".join(f"{other}: {target}" for other in others)
            report.add("only_case", " and ".join(sorted(same)), f"data.classes_alias={{{alias}}}")
    for name in names:
        if name not in trained:
            report.add("not_trained", name, f"split {split}")


def note_aliases(aliases: Mapping[str, str], names: Iterable[str], report: DefectReport) -> None:
    """Note names to be taken for others that the data does not have."""
    absent = sorted(set(aliases) - set(names))
    if absent:
        report.notes.append(
            f"data.classes_alias renames {', '.join(absent)}: no such class was read"
        )


def note_same_names(names: Mapping[int, str], report: DefectReport) -> None:
    """Note numbers of one name: they are taken as one class."""
    numbers: Dict[str, List[str]] = {}
    for number, name in sorted(names.items()):
        numbers.setdefault(name, []).append(str(number))
    for name, same in numbers.items():
        if len(same) > 1:
            report.notes.append(f"classes {', '.join(same)} are all called {name}: taken as one")


def note_shared(splits: Mapping[str, Sequence[str]], report: DefectReport) -> None:
    """Note images that are in two splits by name; copies under another name take `data.probing`."""
    first: Dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            other = first.setdefault(name, split)
            if other != split:
                report.add("leak", name, f"{other} and {split}")


def note_shares(splits: Mapping[str, NDArray[np.float64]], report: DefectReport) -> None:
    """Note splits whose boxes, (N, 4) xyxy, are no pixels, but by all looks shares of them."""
    for split, boxes in splits.items():
        if len(boxes) and boxes[:, 2:].max() <= 1:
            report.add("shares", split, f"{len(boxes)} boxes, the largest corner {boxes.max():g}")
