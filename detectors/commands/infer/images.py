"""The images that the command line names: paths, a list on stdin, or pictures made on the spot."""

from __future__ import annotations

import sys
from typing import List

from data.folder import ImageFile, ImageFolder, find_images
from data.generated import GeneratedImages
from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.batches import Dataset
from detectors.experiment.processes import Processes

__all__ = ["open_images"]


def open_images(args: Arguments, processes: Processes) -> Dataset:
    """A dataset of the images to go through, the same in all processes: the first looks.

    Raises:
        FileNotFoundError: a path is wrong, or there are no images there.
    """
    if args.generated is not None:
        return GeneratedImages(min(args.generated, args.limit or args.generated))
    if not args.paths:  # --compile-only looks at none
        return GeneratedImages(1)
    return ImageFolder(processes.from_first(lambda: find(args)))


def find(args: Arguments) -> List[ImageFile]:
    """The files that are named, and those on stdin."""
    listed = stdin_paths() if "-" in args.paths else []
    paths = [path for path in args.paths if path != "-"]
    files = find_images(paths, listed=listed, recursive=args.recursive)
    if not files:
        raise FileNotFoundError("no images: stdin listed no paths (one per line expected)")
    return files[: args.limit]


def stdin_paths() -> List[str]:
    """One path per line; empty lines are skipped."""
    return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
