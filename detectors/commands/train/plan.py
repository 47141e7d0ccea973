"""What a command has put together before anything is trained, and its header."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

import numpy as np
import torch

from detectors.commands.anchors.held import coverage_line
from detectors.commands.train import header
from detectors.commands.train.datasets import Datasets
from detectors.commands.train.missing_weights import MissingWeights
from detectors.commands.train.resume import Earlier
from detectors.experiment.processes import Processes
from detectors.experiment.ranks import Ranks
from detectors.experiment.recipe import Recipe
from detectors.weights.family import Detector
from detectors.weights.preprocess import Preprocess, from_statistics
from detectors.weights.report import LoadReport

__all__ = ["Plan", "seed_everything"]


@dataclass(frozen=True)
class Plan:
    """The parts of a run."""

    recipe: Recipe
    """Resolved."""
    device: str
    """cpu, cuda or ipu."""
    datasets: Datasets
    """To train and to evaluate on."""
    model: Detector
    """The inference module, with the weights to start from."""
    report: Optional[LoadReport]
    """Of those weights; None where they are random."""
    earlier: Optional[Earlier]
    """The run that goes on."""
    ranks: Ranks = field(default_factory=lambda: Ranks(Processes()))
    """What runs where."""
    missing: Optional[MissingWeights] = None
    """In a check that goes on with random weights: what a training would stop at."""

    @property
    def preprocess(self) -> Preprocess:
        """Of the weights that the run started from; of random ones, the model's own."""
        if self.report is not None:
            return self.report.preprocess
        return from_statistics(self.model.config.mean, self.model.config.std)

    @property
    def calls(self) -> int:
        """Calls of the training executor in the whole run."""
        return self.recipe.trainer.max_steps // self.recipe.device_iterations

    def header(self) -> List[str]:
        """All but the first line, which says the device; refuses where the disk has no room."""
        recipe, earlier = self.recipe, self.earlier
        changed = earlier is not None and earlier.fingerprint != self.datasets.fingerprint
        checkpoint = header.checkpoint_bytes(self.model, recipe)
        space = header.require_space(Path(recipe.run.root), checkpoint)
        lines = [
            header.model_line(recipe, self.model, self.datasets.class_names, self.start),
            *header.data_lines(self.datasets.lines, changed),
            coverage_line(recipe, self.datasets.train, self.model.config),
            header.schedule_line(recipe, len(self.datasets.train)),
            *header.learning_rate_line(recipe),
            *header.deviations(recipe),
            space,
        ]
        if self.ranks.processes.size > 1:
            lines.append(self.ranks.line())
        if recipe.resume == "auto" and earlier is None:
            lines.append(f"resume=auto: no run of {recipe.name} to go on with: this is a new one")
        return lines

    @property
    def start(self) -> str:
        """Where the weights come from, in a few words."""
        if self.earlier is not None:
            return f"going on at step {self.earlier.step}"
        if self.missing is not None:
            return f"random weights in place of {self.missing.name}"
        if self.report is None:
            return "random weights"
        return f"weights {self.report.brief}"


def seed_everything(recipe: Recipe) -> None:
    """The generators that others may draw from; ours are functions of (seed, epoch, index)."""
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
