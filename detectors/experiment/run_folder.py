"""`runs/<name>/<n>`: numbered, never overwritten; `last` points to the newest."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import List

__all__ = [
    "BEST",
    "CONFIG",
    "LAST",
    "SCORES",
    "chosen_folder",
    "new_run_folder",
    "numbered_folders",
    "refuse_taken",
]

CONFIG = "config.yaml"  # the resolved recipe: recipe=<folder>/config.yaml runs it again
LAST, BEST = "last.ckpt", "best.ckpt"
SCORES = "scores.json"  # of a training run: written at its end, so it marks a finished one


def numbered_folders(parent: Path) -> List[Path]:
    """The run folders below `parent`, newest first."""
    if not parent.is_dir():
        return []
    found = [entry for entry in parent.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    return sorted(found, key=lambda entry: int(entry.name), reverse=True)


def new_run_folder(parent: Path) -> Path:
    """Make the next numbered folder below `parent` and point `parent/last` to it.

    Two processes that ask at the same time get different numbers.
    """
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        point_last_to(folder)
        return folder


def point_last_to(folder: Path) -> None:
    """Renaming over the old link keeps `last` valid; a system without symlinks has no `last`."""
    link = folder.parent / "last"
    temporary = folder.parent / f".last.{os.getpid()}"
    with contextlib.suppress(OSError, NotImplementedError):
        temporary.symlink_to(folder.name)
        os.replace(temporary, link)


def chosen_folder(folder: Path, *, overwrite: bool) -> Path:
    """Make the folder that a person named; raises as `refuse_taken` does."""
    refuse_taken(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_taken(folder: Path, *, overwrite: bool) -> None:
    """Check a folder that a person named, and make nothing.

    Raises:
        ValueError: it is a file, or it has files in it and `overwrite` is False.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(
            f"--out {folder} has files in it; name another folder, or give --overwrite to write"
            " over them, or --resume to go on where an earlier run stopped"
        )
