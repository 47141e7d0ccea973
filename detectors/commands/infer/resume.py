"""`--resume`: what an earlier run in the same folder has done, under the same settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Mapping

from data.formats import Classes, ImageDetections, plain
from data.formats.stream import part_of

__all__ = ["earlier_images"]


def earlier_images(
    folder: Path, header: Mapping[str, Any], classes: Classes
) -> List[ImageDetections]:
    """What `detections.json` of a stopped run holds; none where the folder is new.

    Every other file of the run is written anew from it, so that COCO's results have this run's
    category ids from the first picture on, also where the stopped run wrote none into its header.

    Args:
        folder: of the run.
        header: of this run.
        classes: of the detector.

    Raises:
        ValueError: the earlier run had other settings; the message names the first that differs.
    """
    path = folder / plain.FILE
    if not path.exists() and part_of(path).exists():  # it was killed: its part parses all the same
        os.replace(part_of(path), path)
    if not path.exists():
        return []
    before = plain.read_header(folder)
    for key, value in header.items():
        if before.get(key) != value:
            raise ValueError(
                f"--resume: {path} was made with {key} {before.get(key)}, this command has {value};"
                " use the same, or another --out"
            )
    for key, value in plain.about(classes).items():
        if before.get(key, value) != value:
            raise ValueError(
                f"--resume: {path} was made with other {key} than these weights have: use another"
                " --out"
            )
    return plain.read(folder, classes)
