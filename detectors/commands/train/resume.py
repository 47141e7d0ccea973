"""`resume=`: which run goes on, from where, and whether it is still the same run."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from detectors.commands.train.environment import launcher
from detectors.experiment.recipe import Change, Recipe, load_recipe, recipe_changes
from detectors.experiment.run_folder import CONFIG, LAST, SCORES, numbered_folders

__all__ = ["Earlier", "find_earlier", "finished_text", "resume_command"]

SHOWN = 3  # changed keys in the message


@dataclass(frozen=True)
class Earlier:
    """A run that was begun before."""

    folder: Path
    """Of the run; it goes on there."""
    checkpoint: Path
    """What it goes on from."""
    recipe: Recipe
    """What it was run with."""
    step: int
    """Updates of the weights done."""
    fingerprint: str
    """Of its data."""

    def finished_for(self, recipe: Recipe) -> bool:
        """Whether nothing is left to do: its scores, which are written last, are there, and no
        more steps are asked for than it had.
        """
        done = (self.folder / SCORES).exists()
        return done and recipe.trainer.max_steps <= self.recipe.trainer.max_steps


def find_earlier(recipe: Recipe) -> Optional[Earlier]:
    """The run to go on with; None where `resume` is not asked for, or there is nothing yet.

    Args:
        recipe: of this command, resolved.

    Raises:
        FileNotFoundError: there is no such run or checkpoint.
        ValueError: the run had other settings; the message has the first three.
    """
    if recipe.resume is None:
        return None
    if recipe.resume != "auto":
        earlier = open_earlier(checkpoint_of(Path(recipe.resume)))
        require_same(earlier, recipe)
        return earlier
    folders = numbered_folders(Path(recipe.run.root) / recipe.name)
    begun = [folder for folder in folders if (folder / LAST).exists()]
    begun.sort(key=lambda folder: (folder / SCORES).exists())  # unfinished ones first, newest first
    if not begun:
        return None
    same = [folder for folder in begun if not blocking(stored_recipe(folder), recipe)]
    earlier = open_earlier((same or begun)[0] / LAST)  # of runs side by side, the one that is meant
    require_same(earlier, recipe)
    return earlier


def checkpoint_of(path: Path) -> Path:
    """What `resume=` names: a run folder, or a checkpoint in one."""
    checkpoint = path / LAST if path.is_dir() else path
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"resume: no {checkpoint}; name a run folder or its {LAST}, or auto"
        )
    if not (checkpoint.parent / CONFIG).is_file():
        raise FileNotFoundError(
            f"resume: {checkpoint} lies in no run folder ({CONFIG} is missing there);"
            f" to start from its weights: weights={checkpoint}"
        )
    return checkpoint


def stored_recipe(folder: Path) -> Recipe:
    return load_recipe(str(folder / CONFIG))


def open_earlier(checkpoint: Path) -> Earlier:
    """Read what a run has left."""
    from detectors.weights.tensor_file import read_tensor_file  # torch, when it is needed

    content: Dict[str, Any] = read_tensor_file(checkpoint).content
    record = content.get("detectors", {})
    return Earlier(
        checkpoint.parent,
        checkpoint,
        stored_recipe(checkpoint.parent),
        int(content["step"]),
        str(record.get("fingerprint", "")),
    )


def blocking(before: Recipe, now: Recipe) -> List[Change]:
    """The changes that forbid going on: all, or with `resume_changes=allow` the unsafe ones."""
    changes = recipe_changes(before, now)
    if now.resume_changes == "allow":
        return [change for change in changes if not change.safe]
    return changes


def require_same(earlier: Earlier, recipe: Recipe) -> None:
    """Refuse to go on under other settings."""
    changes = blocking(earlier.recipe, recipe)
    if not changes:
        return
    lines = [f"  {change.key}: {change.old} -> {change.new}" for change in changes[:SHOWN]]
    more = f" (and {len(changes) - SHOWN} more)" if len(changes) > SHOWN else ""
    if all(change.safe for change in changes):
        hint = "these are safe to change: add resume_changes=allow"
    else:
        hint = "that is another run: leave resume= out, or give the settings it had"
    raise ValueError(
        "\n".join([f"{earlier.folder} was run with other settings{more}:", *lines, hint])
    )


def finished_text(earlier: Earlier) -> str:
    """`run 3 finished at step 18000 (AP50_voc07 0.803)` and what can be done with it."""
    scores = json.loads((earlier.folder / SCORES).read_text(encoding="utf-8"))
    metric = earlier.recipe.evaluate.metric
    value = scores.get(metric)
    score = f" ({metric} {value:.3f})" if isinstance(value, float) else ""
    steps = earlier.recipe.trainer.max_steps
    more = max(steps + 1, steps * 4 // 3)
    folder = shlex.quote(str(earlier.folder))
    return (
        f"run {earlier.folder} finished at step {earlier.step}{score}\n"
        f"evaluate: python train.py task=evaluate weights={folder}\n"
        f"longer: python train.py resume={folder} trainer.max_steps={more}"
        " resume_changes=allow"
    )


def resume_command(folder: Path, processes: int = 1) -> str:
    """What to type to go on with a run that was stopped, as it was started."""
    return f"{launcher(processes)} resume={shlex.quote(str(folder))}"
