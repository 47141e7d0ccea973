"""What a recipe has become since a run began, and what of that may change under a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple

from detectors.experiment.structured import flat

if TYPE_CHECKING:
    from detectors.experiment.recipe import Recipe

__all__ = ["Change", "recipe_changes"]

OF_A_COMMAND = ("name", "task", "resume", "resume_changes", "weights", "detections", "against")
SAFE = (
    "run.",
    "checkpoint.",
    "evaluate.",
    "device",
    "data.workers",
    "trainer.max_time",
    "ipu.executable_cache",
)
UNSAFE = (
    "device_iterations",
    "evaluate.metric",  # best.ckpt would be the best by two measures
    "evaluate.nms",  # likewise
)


class Change(NamedTuple):
    """One key of two recipes."""

    key: str
    """Dotted."""
    old: Any
    """Its value when the run began."""
    new: Any
    """What it is now."""
    safe: bool
    """The run stays what it would have been, up to rounding."""


def recipe_changes(old: Recipe, new: Recipe) -> List[Change]:
    """The keys that differ, in the order of the recipe; what a command asks for (`task`, `resume`,
    ...) does not count.

    Args:
        old: of the run so far, resolved.
        new: to go on with, resolved.
    """
    before, after = flat(old), flat(new)
    return [
        Change(key, value, after[key], is_safe(key, before, after))
        for key, value in before.items()
        if key not in OF_A_COMMAND and after[key] != value
    ]


def is_safe(key: str, old: Dict[str, Any], new: Dict[str, Any]) -> bool:
    if key == "trainer.max_steps":  # a cosine is spread over all of them, mosaics end before them
        fixed = new["optim.schedule"].name == "cosine" or closes(new)
        return bool(new[key] > old[key] and not fixed)
    return key.startswith(SAFE) and key not in UNSAFE


def closes(recipe: Dict[str, Any]) -> bool:
    """Whether its last steps have no mosaics, so that it must be known which they are."""
    return bool(recipe["augment.mosaic"] and recipe["augment.mosaic_close"])
