"""Which files the `file_name`s of a COCO annotation file mean."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Set, Tuple

from data.folder import is_image, walk

__all__ = ["find_pictures"]


def find_pictures(
    path: Path, folders: Sequence[Path], names: Sequence[str]
) -> Tuple[Path, Dict[str, str]]:
    """The first folder that has all pictures, and where each lies in it, parts joined by '/'.

    Names may be Windows paths or paths of another machine: where no folder has them as they stand,
    their last parts are looked for.

    Args:
        path: of the annotation file.
        folders: that they may be in; in the last one, a picture is found by its bare name too,
            where only one is called so.
        names: `file_name`s.

    Raises:
        FileNotFoundError: no folder has all of them.
    """
    files: Dict[Path, Set[str]] = {}
    best: Tuple[Path, Dict[str, str]] = folders[0], {}
    for loose in (False, True):
        for folder in folders:
            if folder not in files:
                files[folder] = files_below(folder)
            alone = bare_names(files[folder]) if loose and folder == folders[-1] else {}
            found = places_of(names, files[folder], alone, loose=loose)
            if all(name in found for name in names):
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


def places_of(
    names: Sequence[str], files: Set[str], alone: Mapping[str, str], *, loose: bool
) -> Dict[str, str]:
    """Name -> file, of those names that are there; by their ends too where `loose`, but for names
    that would all be one file then.
    """
    where = {name: find(name, files, alone, loose) for name in dict.fromkeys(names)}
    counts = Counter(where.values())
    return {
        name: place
        for name, place in where.items()
        if place is not None and (name == place or not loose or counts[place] == 1)
    }


def find(name: str, files: Set[str], alone: Mapping[str, str], loose: bool) -> Optional[str]:
    if name in files:
        return name
    parts = posixpath.normpath(name.replace("\\", "/")).split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts) if loose else 1))
    return next((end for end in ends if end in files), alone.get(parts[-1]))
