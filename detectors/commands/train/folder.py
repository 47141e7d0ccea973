"""A training run's folder, made for a new run and entered by one that goes on, and what its files
say of the run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Sequence

from detectors.commands.train.environment import describe, note_command
from detectors.commands.train.plan import Plan
from detectors.experiment.atomic import write_whole
from detectors.experiment.recipe import Recipe, Task, recipe_yaml
from detectors.experiment.run_folder import CONFIG, SCORES, new_run_folder
from detectors.weights import make_record

__all__ = ["open_run", "record_of", "stored", "write_text"]


def open_run(plan: Plan, words: Sequence[str]) -> Path:
    """Make or enter the folder, and note in it what is run.

    A run that goes on is unfinished from now on: the scores of its earlier end are taken away.

    Args:
        plan: of the run.
        words: of the command line.
    """
    if plan.earlier is None:
        folder = new_run_folder(Path(plan.recipe.run.root) / plan.recipe.name)
    else:
        folder = plan.earlier.folder
        if (folder / SCORES).exists():
            os.remove(folder / SCORES)
    write_text(folder / CONFIG, recipe_yaml(stored(plan.recipe)))
    write_text(folder / "environment.txt", describe(plan.device))
    note_command(folder, words, plan.ranks.processes.size)
    if plan.datasets.bad_images:
        write_text(folder / "bad_images.txt", "\n".join(plan.datasets.bad_images) + "\n")
    return folder


def stored(recipe: Recipe) -> Recipe:
    """The recipe without what a single command asks for: running it again is a new run."""
    return replace(recipe, task=Task.train, resume=None, resume_changes="refuse")


def record_of(plan: Plan) -> Dict[str, Any]:
    """What the run's checkpoints say beside their tensors."""
    extra = {
        "recipe": recipe_yaml(stored(plan.recipe)),
        "fingerprint": plan.datasets.fingerprint,
        "image": {  # infer.py shows pictures to the model as the training did
            "fit": plan.recipe.image.fit,
            "short_edges": list(plan.recipe.image.short_edges),
            "long_edge": plan.recipe.image.long_edge,
        },
    }
    data = plan.datasets
    return make_record(
        plan.model,
        data.class_names,
        extra,
        preprocess=plan.preprocess,
        category_ids=data.ids_by_label,
    )


def write_text(path: Path, text: str) -> None:
    """The whole text, or the file as it was."""
    write_whole(path, text.encode())
