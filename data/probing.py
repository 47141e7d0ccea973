"""Opens every picture of a dataset once, before training: unreadable files, wrong sizes, copies."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.annotations import Annotations
from data.defects import DefectReport
from data.reading import UnreadableImageError, large_images, read_image

__all__ = ["image_size", "probe_pictures"]

EXIF_ORIENTATION = 0x0112
EXIF_TURNED = (5, 6, 7, 8)  # rotated by 90 degrees one way or the other, mirrored or not
TAIL = 4096  # bytes; of compressed pixels, so that files of one length rarely share them
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
"""What whole files of a format end with. One that does not is decoded to be sure."""


class Header(NamedTuple):
    """What a file says of itself."""

    size: Tuple[int, int]
    """(height, width) as it is read, EXIF applied."""
    rotated: bool
    format: str


class Probe(NamedTuple):
    """One file."""

    length: int
    """Bytes."""
    tail: bytes
    """Digest of its end."""
    size: Tuple[int, int]
    rotated: bool
    error: str


def read_header(path: Path) -> Header:
    """Without decoding; no size where the file is no picture."""
    try:
        with large_images(), Image.open(path) as picture:
            orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
            (width, height), name = picture.size, picture.format or ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Header((0, 0), False, "")
    size = (width, height) if orientation in EXIF_TURNED else (height, width)
    return Header(size, orientation != 1, name)


def image_size(path: Path) -> Tuple[int, int]:
    """(height, width) as `read_image` will give it, from the header alone; (0, 0) where there is
    none.
    """
    return read_header(path).size


def probe(path: Path, decode: bool) -> Probe:
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - TAIL))
            tail = file.read()
    except OSError as reason:
        return Probe(0, b"", (0, 0), False, reason.strerror or str(reason))
    size, rotated, name = read_header(path)
    whole = name in ENDS and tail.rstrip(b"\0\r\n ").endswith(ENDS[name])
    error = ""
    if decode or not whole:
        try:
            size = tuple(read_image(path).shape[1:])  # type: ignore[assignment]  # two of them
        except UnreadableImageError as reason:
            error = str(reason)
    return Probe(length, hashlib.sha256(tail).digest(), size, rotated and not error, error)


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
        decode: decode every picture; else headers and ends are read, and only what does not end as
            its format does is decoded, which finds truncated files at a tenth of the time.
        workers: threads; Pillow decodes without Python's lock.
    """
    alike: Dict[Tuple[int, bytes], List[Tuple[str, str]]] = {}
    for split, table in splits.items():
        paths = [root / str(name) for name in table.names]
        with ThreadPoolExecutor(workers) as pool:
            probes = pool.map(lambda path: probe(path, decode), paths)
            for index, found in enumerate(probes):
                note(table, index, found, report)
                if not found.error:
                    files = alike.setdefault((found.length, found.tail), [])
                    files.append((split, str(table.names[index])))
    for files in alike.values():
        if len(files) > 1:
            note_copies(root, files, report)


def note(table: Annotations, index: int, found: Probe, report: DefectReport) -> None:
    name, size = str(table.names[index]), tuple(table.sizes[index].tolist())
    if found.error:
        report.add("unreadable", name, found.error)
        return
    if size != found.size:
        detail = "annotated {1}x{0}, is {3}x{2}".format(*size, *found.size)
        lost = int((~within(table.boxes[table.rows(index)], found.size)).sum())
        report.add("wrong_size", name, detail + (f", {lost} boxes lie beyond it" if lost else ""))
    if found.rotated:
        report.add("rotated", name)


def within(boxes: NDArray[np.float64], size: Tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) whether any of a box lies in a picture.

    Args:
        boxes: (N, 4) xyxy.
        size: (height, width).
    """
    clipped = np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])
    return np.asarray((clipped[:, 2:] > clipped[:, :2]).all(axis=1), dtype=np.bool_)


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
