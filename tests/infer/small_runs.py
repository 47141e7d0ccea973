"""Small runs of infer.py: their classes, what they leave behind, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Set

from data.formats import FORMATS, Classes, ImageDetections

CLASSES = ("cat", "dog", "cow")
ALL = ",".join(FORMATS)
"""Every output format, for `--format`."""


class Run(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on the screen."""
        return self.out.splitlines()[-1]

    def refused(self, code: int, *parts: str) -> None:
        """Check: it ended with `code`, said `parts` on at most six lines, and wrote nothing."""
        assert self.code == code
        lines = self.err.strip().splitlines()
        assert 1 <= len(lines) <= 6
        assert lines[0].startswith("error: ")
        for part in parts:
            assert part in self.err
        assert not Path("runs").exists()


Infer = Callable[..., Run]


def images_of(folder: Path, name: str = "json") -> List[ImageDetections]:
    """Detections that a run wrote in a format."""
    return FORMATS[name].read(folder, Classes(CLASSES))


def plain(folder: Path) -> Dict[str, Any]:
    """`detections.json` of a run."""
    content: Dict[str, Any] = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    return content


def files_in(folder: Path) -> Set[str]:
    """Paths of all files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
