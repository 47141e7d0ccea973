"""Which run goes on, and which may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from detectors.commands.train.folder import stored
from detectors.commands.train.resume import find_earlier, finished_text
from detectors.experiment.recipe import Recipe, load_recipe, recipe_yaml, resolve

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

Begin = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """`generated`, resolved, below a temporary folder, going on."""
    words = [f"run.root={tmp_path}", "trainer.max_steps=9", "resume=auto", "optim.schedule=step"]
    return resolve(load_recipe("generated", words))


@pytest.fixture
def begin(recipe: Recipe, tmp_path: Path) -> Begin:
    """(number, step, finished, changes) -> a folder as a run leaves it; step 0 saved nothing."""

    def make(number: int, step: int, *, finished: bool = False, **changes: Any) -> Path:
        folder = tmp_path / "generated" / str(number)
        folder.mkdir(parents=True)
        text = recipe_yaml(stored(replace(recipe, **changes)))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        if step:
            record = {"fingerprint": "abc"}
            torch.save(
                {"step": step, "global_step": step, "detectors": record}, folder / "last.ckpt"
            )
        if finished:
            (folder / "scores.json").write_text(json.dumps({"AP50_voc07": 0.8712}))
        return folder

    return make


def test_nothing_goes_on_unless_it_is_asked_for(recipe: Recipe, begin: Begin) -> None:
    begin(1, 4)
    assert find_earlier(replace(recipe, resume=None)) is None


def test_auto_takes_the_newest_unfinished_run(recipe: Recipe, begin: Begin) -> None:
    begin(1, 2)
    folder = begin(2, 4)
    begin(3, 9, finished=True)
    begin(4, 0)  # killed before it saved anything
    found = find_earlier(recipe)
    assert found is not None
    assert (found.folder, found.step, found.fingerprint) == (folder, 4, "abc")
    assert found.checkpoint == folder / "last.ckpt"
    assert not found.finished_for(recipe)


def test_auto_takes_the_run_of_the_same_seed(recipe: Recipe, begin: Begin) -> None:
    folder = begin(1, 4, seed=3)
    begin(2, 4, seed=4)
    found = find_earlier(replace(recipe, seed=3))
    assert found is not None
    assert found.folder == folder


def test_auto_finds_nothing_where_nothing_was_saved(recipe: Recipe, begin: Begin) -> None:
    assert find_earlier(recipe) is None
    begin(1, 0)
    assert find_earlier(recipe) is None


def test_a_finished_run_is_done_unless_more_steps_are_asked_for(
    recipe: Recipe, begin: Begin
) -> None:
    folder = begin(1, 9, finished=True)
    found = find_earlier(recipe)
    assert found is not None
    assert found.finished_for(recipe)
    assert finished_text(found).splitlines() == [
        f"run {folder} finished at step 9 (AP50_voc07 0.871)",
        f"evaluate: python train.py task=evaluate weights={folder}",
        f"longer: python train.py resume={folder} trainer.max_steps=12 resume_changes=allow",
    ]
    longer = replace(recipe, trainer=replace(recipe.trainer, max_steps=12), resume_changes="allow")
    found = find_earlier(longer)
    assert found is not None
    assert not found.finished_for(longer)


def test_other_settings_are_another_run(recipe: Recipe, begin: Begin) -> None:
    begin(1, 4)
    other = replace(recipe, seed=4, micro_batch_size=3, optim=replace(recipe.optim, lr=0.5))
    other = replace(other, run=replace(recipe.run, log_every_steps=7))
    with pytest.raises(ValueError, match=r"other settings \(and 1 more\)") as caught:
        find_earlier(other)
    lines = str(caught.value).splitlines()
    assert "  seed: 0 -> 4" in lines
    assert len(lines) == 5
    assert lines[-1].startswith("that is another run: leave resume= out")
    with pytest.raises(ValueError, match="seed: 0 -> 4"):
        find_earlier(replace(recipe, seed=4, resume_changes="allow"))


def test_what_changes_no_weight_may_change_on_request(recipe: Recipe, begin: Begin) -> None:
    begin(1, 4)
    other = replace(recipe, run=replace(recipe.run, log_every_steps=7))
    with pytest.raises(ValueError, match="add resume_changes=allow"):
        find_earlier(other)
    assert find_earlier(replace(other, resume_changes="allow")) is not None


def test_a_path_names_a_run_or_its_checkpoint(recipe: Recipe, begin: Begin) -> None:
    folder = begin(1, 4)
    for path in (folder, folder / "last.ckpt"):
        found = find_earlier(replace(recipe, resume=str(path)))
        assert found is not None
        assert found.folder == folder


def test_what_is_no_run_is_refused(recipe: Recipe, begin: Begin, tmp_path: Path) -> None:
    empty = begin(1, 0)
    with pytest.raises(FileNotFoundError, match=r"no .*last\.ckpt; name a run folder"):
        find_earlier(replace(recipe, resume=str(empty)))
    torch.save({"step": 1}, tmp_path / "alone.ckpt")
    with pytest.raises(FileNotFoundError, match=r" weights=.*alone\.ckpt"):
        find_earlier(replace(recipe, resume=str(tmp_path / "alone.ckpt")))
