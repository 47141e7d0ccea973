"""A file that is complete after every record and takes its name only when it is done.

Records go to `NAME.part`, which becomes NAME at `close`. A process that is killed leaves a `.part`
file that still parses.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Iterable, TextIO

__all__ = ["JsonList", "open_part", "open_part_folder", "part_of", "publish"]


def part_of(path: Path) -> Path:
    """Where a file or folder is written until it is done."""
    return path.with_name(path.name + ".part")


def publish(path: Path) -> None:
    """Give a finished `.part` its name; a folder of an earlier run makes way."""
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(part_of(path), path)


def open_part_folder(path: Path) -> Path:
    """Make `path`'s part, an empty folder."""
    part = part_of(path)
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part


def open_part(path: Path, errors: str = "surrogateescape") -> TextIO:
    """Open `path`'s part for writing text; file names that are not UTF-8 survive a round trip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return part_of(path).open("w", encoding="utf-8", errors=errors, newline="\n")


class JsonList:
    """JSON whose last value is a list that grows: memory stays flat, and the file parses after
    every record.

    Args:
        path: final name.
        head: text before the list's items, ending in `[`.
        tail: text after them, starting with `]`.
    """

    def __init__(self, path: Path, head: str, tail: str) -> None:
        self.path = path
        # A file name that is no UTF-8 holds lone surrogates; backslashreplace writes them as JSON's
        # own escapes.
        self.file = open_part(path, errors="backslashreplace")
        self.separator = "\n"
        self.file.write(head)
        self.end = self.file.tell()
        self.finish(tail)
        self.tail = tail

    def extend(self, values: Iterable[Any]) -> None:
        """Write items and the closing tail, which the next items overwrite."""
        text = ",\n".join(json.dumps(value, ensure_ascii=False) for value in values)
        if not text:
            return
        self.file.seek(self.end)
        self.file.write(self.separator + text)
        end = self.file.tell()
        self.finish(self.tail)
        self.end, self.separator = end, ",\n"

    def finish(self, tail: str) -> None:
        self.file.write("\n" + tail + "\n")
        self.file.truncate()
        self.file.flush()

    def close(self, tail: str = "") -> None:
        """Write the final tail (by default the one so far) and give the file its name."""
        self.file.seek(self.end)
        self.finish(tail or self.tail)
        self.file.close()
        publish(self.path)
