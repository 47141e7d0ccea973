"""What a dataset holds, in lines for people and in one number."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import List, Mapping, Sequence

from data.annotations import Annotations
from data.defects import KINDS, DefectReport
from detectors.experiment.recipe import DataSettings

__all__ = ["fingerprint", "many", "summary"]

CLASSES_ON_SCREEN = 6
WARNINGS_ON_SCREEN = 2
FIRST_TO_SEE = ("leak", "only_case", "not_trained", "wrong_size", "rotated")
"""What may spoil a run or its scores; other kinds are told after these."""


def fingerprint(splits: Mapping[str, Annotations]) -> str:
    """Of all that training and evaluation know of a dataset but its pixels."""
    digest = hashlib.sha256()
    for split, table in splits.items():
        texts = [split, *table.class_names, "", *table.names.tolist()]
        digest.update("\0".join(texts).encode("utf-8", "surrogateescape"))
        for array in (table.image_ids, table.sizes, table.starts, table.boxes, table.labels):
            digest.update(array.tobytes())
        digest.update(table.difficult.tobytes() + table.crowd.tobytes())
    return digest.hexdigest()


def summary(
    splits: Mapping[str, Annotations],
    sets: Mapping[str, Sequence[str]],
    settings: DataSettings,
    report: DefectReport,
) -> List[str]:
    """Pictures and boxes of each split, classes of the first, what else is worth knowing, and what
    to be warned of.
    """
    parts = [part(split, table, sets[split]) for split, table in splits.items()]
    first, table = next(iter(splits.items()))
    lines = ["; ".join(parts), classes_line(table)]
    empty = int((table.starts[1:] == table.starts[:-1]).sum())
    if empty:
        lines.append(f"{many(empty)} images of {first} have no box and are kept")
    images, boxes = table.overflow(settings.max_boxes)
    if images:
        most = int((table.starts[1:] - table.starts[:-1]).max())
        lines.append(
            f"{many(images)} images have more than {settings.max_boxes} boxes: the {many(boxes)}"
            f" smallest are left out of training; data.max_boxes={most} takes all"
        )
    counts = report.counts()
    out = [f"{many(counts[kind])} {KINDS[kind].text}" for kind in counts if KINDS[kind].stops]
    if out:
        lines.append(f"data.skip_bad leaves out: {', '.join(out)}")
    return [*lines, *report.notes, *warnings(report)]


def warnings(report: DefectReport) -> List[str]:
    """The defects that are no reason to stop."""
    found = [kind for kind in report.counts() if not KINDS[kind].stops]
    found = sorted(found, key=lambda kind: kind not in FIRST_TO_SEE)
    lines = [f"warning: {report.line(kind)}" for kind in found[:WARNINGS_ON_SCREEN]]
    if len(found) > len(lines):
        lines.append(f"{len(found) - len(lines)} more kinds of defects: task=check names them")
    return lines


def part(split: str, table: Annotations, names: Sequence[str]) -> str:
    """`train 16 551 images (5 011 + 11 540), 40 058 boxes without difficult`"""
    folders = Counter(str(name).rpartition("/")[0] for name in table.names)
    shares = ""
    if len(names) > 1 and len(folders) == len(names):
        shares = f" ({' + '.join(many(count) for count in folders.values())})"
    difficult = int(table.difficult.sum())
    without = f" without {many(difficult)} difficult" if difficult else ""
    boxes = many(len(table.boxes) - difficult)
    return f"{split} {many(len(table))} images{shares}, {boxes} boxes{without}"


def classes_line(table: Annotations) -> str:
    """`3 classes: WBC 211, RBC 2 430, Platelets 218`"""
    counts = [f"{name} {many(count)}" for name, count in table.counts().items()]
    shown = counts[:CLASSES_ON_SCREEN] + (["…"] if len(counts) > CLASSES_ON_SCREEN else [])
    return f"{len(counts)} class{'es' if len(counts) > 1 else ''}: {', '.join(shown)}"


def many(number: int) -> str:
    """`16 551`"""
    return f"{number:,}".replace(",", " ")
