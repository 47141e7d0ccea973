"""Detections of one image into a drawing, and into files and the tally that the summary shows.

D detections.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple, Type

from torch import Tensor

from data.drawing import draw, drawing_path, save_drawing
from data.formats import FORMATS, Classes, ImageDetections
from detectors.commands.infer.arguments import Arguments
from detectors.experiment.run_folder import chosen_folder, new_run_folder

__all__ = ["Drawings", "Results", "Tally", "run_folder"]

IMAGES = "images"  # the folder of drawings


def over(image: ImageDetections, score: float) -> ImageDetections:
    """The detections whose score is over a threshold; they are in descending order."""
    count = sum(value > score for value in image.scores)
    return ImageDetections(
        image.file,
        image.image_id,
        image.width,
        image.height,
        image.labels[:count],
        image.scores[:count],
        image.boxes[:count],
    )


class Tally:
    """What was found, without keeping it: memory does not grow with the number of images."""

    def __init__(self) -> None:
        self.images = 0
        self.boxes: Dict[int, int] = {}
        self.images_with: Dict[int, int] = {}
        self.best_of: Dict[int, float] = {}
        self.best: Optional[Tuple[float, int, str]] = None
        """Score, label and file of the best detection, under the threshold or over it."""
        self.largest: Tuple[int, str] = (0, "")
        """Long side and name of the largest image."""
        self.unreadable: List[Tuple[str, str]] = []
        """Name and reason."""

    def see(self, image: ImageDetections) -> None:
        """Note the best score, before the threshold is applied."""
        if image.scores and (self.best is None or image.scores[0] > self.best[0]):
            self.best = (image.scores[0], image.labels[0], image.file)
        self.largest = max(self.largest, (max(image.width, image.height), image.file))

    def add(self, image: ImageDetections) -> None:
        """Count an image's detections."""
        self.images += 1
        for label, score in zip(image.labels, image.scores):
            self.boxes[label] = self.boxes.get(label, 0) + 1
            self.best_of[label] = max(score, self.best_of.get(label, 0.0))
        for label in set(image.labels):
            self.images_with[label] = self.images_with.get(label, 0) + 1


def run_folder(out: Optional[Path], model: str, *, writable: bool) -> Path:
    """--out, or the next number in `runs/infer/<model>`.

    Raises:
        ValueError: --out has files in it and is not `writable`.
    """
    if out is not None:
        return chosen_folder(out, overwrite=writable)
    return new_run_folder(Path("runs") / "infer" / model)


class Drawings:
    """Pictures with their detections drawn on; whoever has an image's pixels draws.

    Args:
        folder: of the run.
        args: --no-images and --score are used.
        classes: of the detector.
    """

    def __init__(self, folder: Path, args: Arguments, classes: Classes) -> None:
        self.folder = folder / IMAGES
        self.names = classes.names
        self.wanted = args.images
        self.score = args.score
        self.stamp = "random weights" if args.random_weights else ""
        self.done: Set[str] = set()

    def add(self, image: ImageDetections, pixels: Tensor) -> None:
        """Draw one image; the second time (--repeat) nothing.

        Args:
            image: all of its detections, also under the threshold.
            pixels: (3, H, W) uint8.
        """
        if not self.wanted or image.file in self.done:
            return
        self.done.add(image.file)
        kept = over(image, self.score)
        names = [self.names[label] for label in kept.labels]
        texts = [f"{name} {score:.2f}" for name, score in zip(names, kept.scores)]
        drawing = draw(pixels, kept.boxes, kept.labels, texts, self.stamp)
        save_drawing(drawing, drawing_path(self.folder, kept.file))


class Results:
    """Every file of a run but the drawings; a context manager that finishes them whatever happens.

    Args:
        folder: of the run.
        args: --format, --no-images and --score are used.
        classes: of the detector.
        header: for the formats that have one.
    """

    def __init__(
        self, folder: Path, args: Arguments, classes: Classes, header: Mapping[str, Any]
    ) -> None:
        self.folder = folder
        self.classes = classes
        self.drawings = args.images
        self.score = args.score
        self.complete = False
        """Whether all images were done; the caller says so at the end."""
        self.tally = Tally()
        self.done: Set[str] = set()
        self.formats = [FORMATS[name] for name in args.format]
        self.writers = [form.open(folder, self.classes, header) for form in self.formats]

    def add(self, image: ImageDetections) -> None:
        """Write one image's detections, those that are over the threshold; an image that is there
        already is left as it is.
        """
        if image.file in self.done:
            return
        self.done.add(image.file)
        self.tally.see(image)
        kept = over(image, self.score)
        for writer in self.writers:
            writer.write(kept)
        self.tally.add(kept)

    def skip(self, name: str, reason: str) -> None:
        """Note an image that could not be read."""
        if name not in self.done:
            self.done.add(name)
            self.tally.unreadable.append((name, reason))

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Give the files their names; they are valid whether or not all images were done."""
        for writer in self.writers:
            with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
                writer.close(self.tally.unreadable, complete=self.complete)

    def names(self) -> List[str]:
        """What there is in the folder, for the last line."""
        return [form.path for form in self.formats] + ([IMAGES + "/"] if self.drawings else [])
