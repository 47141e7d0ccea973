"""A resumed run is the rest of the uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch

KINDS = ("torch", "poptorch")
HOOKS = ("on_train_batch_end", "on_validation_end")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("saved", "hook"),
    [(4, HOOKS[0]), (4, HOOKS[1]), (5, HOOKS[0]), (8, HOOKS[0])],
    ids=["before-validation", "after-validation", "between", "second-validation"],
)
def test_a_resumed_run_is_the_rest_of_the_whole_one(
    kind: str, saved: int, hook: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    whole = run(kind)
    checkpoint = tmp_path / "last.ckpt"
    run(kind, kill_after=saved + 1, save=(saved, hook, checkpoint))
    rest = run(kind, resume=checkpoint)
    assert [step for step, _, _ in rest.steps] == list(range(saved + 1, 11))
    assert rest.steps == whole.steps[saved:]  # losses and learning rates, to the last digit
    due = saved if hook == HOOKS[0] else saved + 1  # one that was done is not done again
    assert rest.validations == [one for one in whole.validations if one[0] >= due]
    for name, weight in whole.weights.items():
        assert torch.equal(rest.weights[name], weight), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_goes_on_for_longer(
    kind: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    whole, short = run(kind), run(kind, 4)
    short.trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    rest = run(kind, resume=tmp_path / "last.ckpt")
    assert rest.steps == whole.steps[4:]
    assert [step for step, _, _ in rest.validations] == [8]
    for name, weight in whole.weights.items():
        assert torch.equal(rest.weights[name], weight), name


def test_a_resumed_run_of_two_updates_per_call(run: Callable[..., Any], tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.ckpt"
    whole = run("poptorch", updates_per_call=2)
    save = (2, HOOKS[0], checkpoint)  # two calls, four steps
    run("poptorch", updates_per_call=2, kill_after=3, save=save)
    rest = run("poptorch", updates_per_call=2, resume=checkpoint)
    assert rest.steps == whole.steps[2:]
    assert [step for step, _, _ in rest.validations] == [4, 8]
