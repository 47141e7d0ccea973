"""`weights=FILE head=map` on a training's command line: short for `model.weights` and `model.head`,
which alone stand in the run's recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence

if TYPE_CHECKING:
    from detectors.experiment.recipe import Recipe

__all__ = ["long_words", "start_from"]


def long_words(words: Sequence[str]) -> List[str]:
    """`key=value` words with `head=` written out.

    Raises:
        ValueError: it is given in both spellings.
    """
    require_one("head", words)
    return [f"model.{word}" if word.startswith("head=") else word for word in words]


def start_from(recipe: Recipe, words: Sequence[str]) -> None:
    """Move `weights` of the command line to where a training looks for it, in place; an evaluation
    keeps it.

    Raises:
        ValueError: `model.weights` is given, too, or nothing is named.
    """
    given = any(word.startswith("weights=") for word in words)
    if not given or recipe.task.name == "evaluate":
        return
    require_one("weights", words)
    if "weights=" in words:  # of a shell's empty variable
        raise ValueError(
            "weights= names nothing to start from: give a file, or leave it out for"
            f" model.weights={recipe.model.weights}"
        )
    if recipe.weights is not None:
        recipe.model.weights, recipe.weights = recipe.weights, None


def require_one(key: str, words: Sequence[str]) -> None:
    """Refuse both spellings at once."""
    keys = {word.partition("=")[0] for word in words}
    if {key, f"model.{key}"} <= keys:
        raise ValueError(f"{key}= is short for model.{key}=, and both are given: leave one out")
