"""Why a dataset cannot be used, and which words would do, in the six lines of an error."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import Callable, Mapping, Optional, Sequence, Tuple

from data.annotations import Annotations
from data.defects import DefectReport

__all__ = ["unknown_classes", "unsound", "way_round"]

LINES_ON_SCREEN = 3  # of those that say why
CLASSES_ON_SCREEN = 6

Read = Callable[[Mapping[str, Sequence[str]]], object]
"""Reads sets by split, or raises."""


def unknown_classes(report: DefectReport, tables: Sequence[Annotations]) -> str:
    """What to write for classes that the data has and the recipe has not."""
    found = Counter(defect.detail for defect in report.of_kind("unknown_class"))
    listed = ", ".join(f"{name} {count}" for name, count in found.most_common(CLASSES_ON_SCREEN))
    names = tables[0].class_names
    wanted = [name for name in names if any(table.counts()[name] for table in tables)] + list(found)
    other, target = most_alike(list(found), names)
    return (
        f"{report.line('unknown_class')}\n"
        f"data.classes has {', '.join(names)}; the data has {listed} besides\n"
        f"to take them in: data.classes=[{','.join(wanted)}]\n"
        f"to rename: data.classes_alias={{{other}: {target}}}\n"
        "to leave them out: data.skip_bad=true"
    )


def most_alike(found: Sequence[str], names: Sequence[str]) -> Tuple[str, str]:
    """One of `found` and the one of `names` that it resembles most."""
    pairs = [(one, name) for one in found for name in names]
    return max(
        pairs, key=lambda pair: SequenceMatcher(None, pair[0].lower(), pair[1].lower()).ratio()
    )


def unsound(lines: Sequence[str], defects: int, named: bool) -> str:
    """Why a dataset is refused, and what to do.

    Args:
        lines: of `DefectReport.problem`.
        defects: how many there are, those that do not stop included.
        named: every one of them is on the screen already.
    """
    if named:
        return f"of {defects} defects some stop a training; data.skip_bad=true leaves these out"
    shown = list(lines[:LINES_ON_SCREEN])
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} lines more")
    return "\n".join(
        [*shown, f"task=check names all {defects} defects; data.skip_bad=true leaves these out"]
    )


def way_round(read: Read, sets: Mapping[str, Sequence[str]]) -> Optional[str]:
    """`to go on without 2012_trainval: data.train=[2007_trainval]`; None where not even one set to
    train on can be read.
    """
    words = []
    for split, names in sets.items():
        bad = [name for name in names if not can_read(read, name)]
        good = [name for name in names if name not in bad]
        if not good and split == "train":
            return None
        if bad:
            words.append(f"without {', '.join(bad)}: data.{split}=[{','.join(good)}]")
    return f"to go on {'; '.join(words)}" if words and "train" in sets else None


def can_read(read: Read, name: str) -> bool:
    try:
        read({"one": [name]})
    except (FileNotFoundError, ValueError):
        return False
    return True
