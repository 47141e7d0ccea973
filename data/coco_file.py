"""One COCO annotation file as it stands: its three lists, with what reading relies on in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

__all__ = ["annotated_size", "read_file", "whole_number"]

LISTS = ("images", "annotations", "categories")
IDS = ("id", "image_id", "category_id")


def read_file(path: Path) -> Dict[str, Any]:
    """A file's content: ids are whole numbers (of an annotation None where they are none), every
    picture has a `file_name`, every category a `name` that is text.

    Raises:
        ValueError: not JSON, no annotation file, or an entry that cannot be used; the message has
            its place in its list, from 0.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or any(key not in content for key in LISTS):
        raise ValueError(f"{path} is no COCO annotation file: it needs {', '.join(LISTS)}")
    for key in LISTS:
        entries = content[key]
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ValueError(f"{path}: {key} must be a list of objects, each in braces")
        for entry in entries:
            number_ids(entry)
    require(path, "images", content["images"], "file_name")
    require(path, "categories", content["categories"], "name")
    ids = [entry["id"] for entry in content["categories"]]
    twice = sorted({number for number in ids if ids.count(number) > 1})
    if twice:
        names = [entry["name"] for entry in content["categories"] if entry["id"] == twice[0]]
        raise ValueError(f"{path}: categories {' and '.join(names)} have the same id {twice[0]}")
    return content


def number_ids(entry: Dict[str, Any]) -> None:
    """Write an entry's ids as numbers: some programs write "17"."""
    for key in IDS:
        if key in entry and type(entry[key]) is not int:
            entry[key] = whole_number(entry[key])


def whole_number(value: Any) -> Optional[int]:
    """`17` of 17, 17.0 and "17"; None of anything else."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if isinstance(value, (int, float)) else None


def require(path: Path, kind: str, entries: List[Dict[str, Any]], key: str) -> None:
    """Refuse entries without an id or without their text, which becomes text where it is a
    number.
    """
    for place, entry in enumerate(entries):
        if entry.get("id") is None:
            raise ValueError(f"{path}: {kind}[{place}] has no id that is a whole number")
        if isinstance(entry.get(key), (int, float)):
            entry[key] = str(entry[key])
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise ValueError(f"{path}: {kind}[{place}] (id {entry['id']}) has no {key}")


def annotated_size(image: Dict[str, Any]) -> Optional[Tuple[int, int]]:
    """(height, width) of a picture's entry; None where it has none."""
    sides = whole_number(image.get("height")), whole_number(image.get("width"))
    return (sides[0], sides[1]) if sides[0] and sides[1] and min(sides[0], sides[1]) > 0 else None
