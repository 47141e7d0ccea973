"""One VOC annotation file as it stands: names, corners, line numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Tuple
from xml.etree import ElementTree

from data.defects import Box, DefectReport

__all__ = ["Sheet", "Thing", "read_sheet"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")
OBJECT = re.compile(rb"<object[\s>]")


@dataclass(frozen=True)
class Thing:
    """An object."""

    name: str
    """Its class, as written."""
    box: Box
    """Corners, as written."""
    difficult: bool
    """False where the file does not say."""
    where: str
    """File and line."""

    def from_one(self) -> Thing:
        """Corners counted from 1, maxima inclusive -> continuous pixels.

        Equal corners stay so: what is written with zero width was never meant as one pixel.
        """
        x1, y1, x2, y2 = self.box
        if x1 == x2 or y1 == y2:
            return self
        return replace(self, box=(x1 - 1, y1 - 1, x2, y2))


@dataclass(frozen=True)
class Sheet:
    """A file."""

    filename: str
    """What it says its picture is called; may be anything."""
    size: Optional[Tuple[int, int]]
    """(height, width) of the picture, where it says so."""
    things: List[Thing]
    """Objects that have a name and four numbers."""


def read_sheet(path: Path, where: str, report: DefectReport) -> Optional[Sheet]:
    """Parse a file; what cannot be used is noted.

    Args:
        path: the file.
        where: what it is called in the report.
        report: where defects go.

    Returns:
        None where the file is no XML.
    """
    content = path.read_bytes()
    try:
        top = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings
        report.add("bad_file", where, str(error))
        return None
    lines = [content.count(b"\n", 0, match.start()) + 1 for match in OBJECT.finditer(content)]
    things = []
    for number, element in enumerate(top.findall("object")):
        line = f"{where}:{lines[number]}" if number < len(lines) else where
        thing = read_thing(element, line, report)
        if thing is not None:
            things.append(thing)
    return Sheet(text(top, "filename"), annotated_size(top), things)


def read_thing(element: ElementTree.Element, where: str, report: DefectReport) -> Optional[Thing]:
    """One object; its parts (head, hand, foot) have boxes of their own, which are left alone."""
    name, box = text(element, "name"), element.find("bndbox")
    if not name:
        report.add("no_name", where)
        return None
    if box is None:
        report.add("no_box", where, name)
        return None
    texts = [text(box, corner) for corner in CORNERS]
    corners = [number(value) for value in texts]
    if not all(math.isfinite(corner) for corner in corners):
        report.add("bad_number", where, " ".join(value or "nothing" for value in texts))
        return None
    x1, y1, x2, y2 = corners
    difficult = text(element, "difficult").lower() in ("1", "true")
    return Thing(name, (x1, y1, x2, y2), difficult, where)


def annotated_size(top: ElementTree.Element) -> Optional[Tuple[int, int]]:
    """(height, width), where the file has both and they are no zeros."""
    height, width = (number(text(top, f"size/{side}")) for side in ("height", "width"))
    if not (height >= 1 and width >= 1 and math.isfinite(height * width)):
        return None
    return int(height), int(width)


def text(element: ElementTree.Element, path: str) -> str:
    """What stands in a child, without the space around it."""
    return (element.findtext(path) or "").strip()


def number(value: str) -> float:
    """NaN where it is none."""
    try:
        return float(value)
    except ValueError:
        return math.nan
