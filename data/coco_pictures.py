"""Which files the `file_name`s of a COCO annotation file mean."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from data.folder import is_image, walk

__all__ = ["find_pictures"]


def find_pictures(
    path: Path, folders: Sequence[Path], names: Sequence[str]
) -> Tuple[Path, Dict[str, str]]:
    """The first folder that has all pictures, and where each lies in it, parts joined by '/'.

    Names may be Windows paths or paths of another machine, whose last parts are looked for.

    Args:
        path: of the annotation file.
        folders: that they may be in; in the last one, a picture is found by its bare name too,
            where only one is called so.
        names: `file_name`s.

    Raises:
        FileNotFoundError: no folder has all of them.
    """
    best: Tuple[Path, Dict[str, str]] = folders[0], {}
    for folder in folders:
        files = files_below(folder)
        alone = bare_names(files) if folder == folders[-1] else {}
        where = {name: find(name, files, alone) for name in names}
        found = {name: place for name, place in where.items() if place is not None}
        if len(found) == len(where):
            return folder, found
        if len(found) > len(best[1]):
            best = folder, found
    folder, found = best
    missing = [name for name in names if name not in found]
    tried = ", ".join(str(one) for one in dict.fromkeys(folders))
    if not found:
        raise FileNotFoundError(f"no images of {path}: looked for {missing[0]} in {tried}")
    raise FileNotFoundError(
        f"{path} names {len(names)} images; {len(missing)} are not there, first:"
        f" {folder / missing[0]}"
    )


def files_below(folder: Path) -> Set[str]:
    """Of a folder and its sub-folders, parts joined by '/'; none where there is no such folder."""
    found: Set[str] = set()
    for parent, _, files in walk(folder):
        inside = parent.relative_to(folder)
        found.update((inside / file).as_posix() for file in files)
    return found


def bare_names(files: Set[str]) -> Dict[str, str]:
    """Name without folders -> its picture, of names that only one has."""
    counts = Counter(file.rpartition("/")[2] for file in files)
    pictures = [(file.rpartition("/")[2], file) for file in files]
    return {name: file for name, file in pictures if counts[name] == 1 and is_image(name)}


def find(name: str, files: Set[str], alone: Dict[str, str]) -> Optional[str]:
    if name in files:
        return name
    parts: List[str] = posixpath.normpath(name.replace("\\", "/")).split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in files), alone.get(parts[-1]))
