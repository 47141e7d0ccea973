"""The detector of an evaluation: complete, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

from detectors.commands.evaluate.suppression import evaluation_postprocess
from detectors.commands.train.model import load_detector
from detectors.experiment.recipe import Recipe, image_size
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.weights import LoadReport
from detectors.weights.family import Detector
from detectors.weights.source import open_source
from detectors.weights.tensor_file import read_tensor_file

__all__ = ["Loaded", "open_detector"]


class Loaded(NamedTuple):
    """A detector with its weights."""

    model: Detector
    """For inference, with the recipe's image size, score threshold and first NMS."""
    class_names: Tuple[Optional[str], ...]
    """By its label."""
    report: LoadReport
    """Of its weights."""
    step: Optional[int]
    """Updates of the weights before it; None where nothing says."""

    @property
    def line(self) -> str:
        """What is evaluated, for people."""
        config = self.model.config
        height, width = config.image_size
        return (
            f"{config.name} {height}x{width} · {config.num_classes} classes · weights"
            f" {self.report.path} ({self.report.of}), sha256 {self.report.sha256[:8]}…"
        )


def open_detector(recipe: Recipe, class_names: Sequence[Optional[str]], path: Path) -> Loaded:
    """Load weights into the model they say they are, or the one that the recipe says.

    Args:
        recipe: of the evaluation.
        class_names: of the data; the weights' own count where they tell.
        path: a checkpoint, a run folder, or weights of others.

    Raises:
        ValueError: no detector, or one of another form.
        FileNotFoundError: nothing is there.
    """
    record = open_source(path, ema=True, origin=recipe.model.origin).record
    own = record.classes if record is not None else None
    names = tuple(class_names) if own is None else own
    model, report = load_detector(recipe, names, path)
    threshold = recipe.model.box_head.score_threshold
    postprocess = evaluation_postprocess(model, recipe.evaluate.nms[0])
    if threshold is not None and isinstance(model, FasterRCNN):
        postprocess = replace(postprocess, score_threshold=threshold)
    model.configure(image_size=image_size(recipe), postprocess=postprocess)
    return Loaded(model, names, report, step_of(report))


def step_of(report: LoadReport) -> Optional[int]:
    """What the record says, else what a checkpoint of a training has beside its weights."""
    found = report.extra.get("step")
    if found is None and report.origin == "detectors":
        content = read_tensor_file(report.path).content
        found = content.get("step", content.get("global_step"))
    return found if isinstance(found, int) else None
