"""Opens every picture of a dataset once, before training: unreadable files, wrong sizes, copies."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Tuple

from PIL import Image

from data.annotations import Annotations
from data.defects import DefectReport
from data.reading import UnreadableImageError, read_image

__all__ = ["image_size", "probe_pictures"]

EXIF_ORIENTATION = 0x0112
EXIF_TURNED = (5, 6, 7, 8)  # rotated by 90 degrees one way or the other, mirrored or not


class Probe(NamedTuple):
    """One file."""

    bytes: int
    size: Tuple[int, int]
    """(height, width) as it is read, EXIF applied."""
    rotated: bool
    error: str


def image_size(path: Path) -> Tuple[int, int]:
    """(height, width) as `read_image` will give it, from the header alone; (0, 0) where there is
    none.
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(EXIF_ORIENTATION) in EXIF_TURNED
            width, height = picture.size
    except (OSError, SyntaxError, ValueError):
        return 0, 0
    return (width, height) if turned else (height, width)


def probe(path: Path, decode: bool) -> Probe:
    size = image_size(path)
    error = ""
    if decode or size == (0, 0):
        try:
            size = tuple(read_image(path).shape[1:])  # type: ignore[assignment]  # two of them
        except (UnreadableImageError, OSError) as reason:
            error = str(reason)
    turned = False
    if not error:
        with Image.open(path) as picture:
            turned = picture.getexif().get(EXIF_ORIENTATION, 1) != 1
    return Probe(path.stat().st_size if path.exists() else 0, size, turned, error)


def probe_pictures(
    root: Path,
    splits: Mapping[str, Annotations],
    report: DefectReport,
    *,
    decode: bool = True,
    workers: int = 4,
) -> None:
    """Look at every picture, and note what is wrong in `report`.

    Args:
        root: folder that the names are below.
        splits: by name.
        report: where defects go.
        decode: decode every picture (finds truncated files); else only headers are read.
        workers: threads; Pillow decodes without Python's lock.
    """
    by_bytes: Dict[int, List[Tuple[str, str]]] = {}
    for split, table in splits.items():
        paths = [root / str(name) for name in table.names]
        with ThreadPoolExecutor(workers) as pool:
            probes = pool.map(lambda path: probe(path, decode), paths)
            for name, size, found in zip(table.names.tolist(), table.sizes.tolist(), probes):
                note(name, (size[0], size[1]), found, report)
                if not found.error:
                    by_bytes.setdefault(found.bytes, []).append((split, name))
    for same_length in by_bytes.values():
        if len(same_length) > 1:
            note_copies(root, same_length, report)


def note(name: str, size: Tuple[int, int], found: Probe, report: DefectReport) -> None:
    if found.error:
        report.add("unreadable", name, found.error)
        return
    if size != found.size:
        detail = "annotated {1}x{0}, is {3}x{2}".format(*size, *found.size)
        report.add("wrong_size", name, detail)
    if found.rotated:
        report.add("rotated", name)


def note_copies(root: Path, files: List[Tuple[str, str]], report: DefectReport) -> None:
    """Copies are `same_picture` within a split and `leak` across."""
    first: Dict[bytes, Tuple[str, str]] = {}
    for split, name in files:
        digest = hashlib.sha256((root / name).read_bytes()).digest()
        other_split, other = first.setdefault(digest, (split, name))
        if other == name:
            continue  # the first of its kind, or one file in two splits: known from its name
        if other_split == split:
            report.add("same_picture", name, f"of {other}")
        else:
            report.add("leak", name, f"{split}; also in {other_split}: {other}")
