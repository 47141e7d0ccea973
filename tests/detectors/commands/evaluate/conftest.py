"""A detector too small to be good, on six generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Sequence

import pytest

from detectors.commands.train.model import build_model
from detectors.experiment.recipe import Recipe, load_recipe, recipe_yaml, resolve
from detectors.weights import save
from tests.small_runs import TINY

MakeRun = Callable[..., Path]

WORDS = (
    *TINY,
    "data.count=[1,6]",
    "model.box_head.score_threshold=0.0",
    "evaluate.resamples=10",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Recipe]:
    """(words) -> the recipe `generated`, as small as it goes, writing below a temporary folder."""

    def make(*words: str) -> Recipe:
        return load_recipe("generated", [*WORDS, f"run.root={tmp_path / 'runs'}", *words])

    return make


@pytest.fixture
def words(tmp_path: Path) -> List[str]:
    """What a command line needs to do the same."""
    return ["recipe=generated", *WORDS, f"run.root={tmp_path / 'runs'}"]


@pytest.fixture
def make_run(tiny: Callable[..., Recipe], tmp_path: Path) -> MakeRun:
    """A run folder with a recipe and a checkpoint of it: (name, classes, seed) -> folder."""

    def make(
        name: str = "run",
        classes: Sequence[str] = ("circle", "square", "triangle"),
        seed: int = 0,
    ) -> Path:
        recipe = resolve(tiny(f"seed={seed}"))
        model, _ = build_model(recipe, classes)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(recipe_yaml(recipe))
        extra = {"recipe": recipe_yaml(recipe), "step": 7}
        save(model, folder / "best.ckpt", classes=classes, extra=extra)
        return folder

    return make
