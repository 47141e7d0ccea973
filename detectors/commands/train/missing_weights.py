"""Published weights that cannot be had: a check's finding, and the random ones it goes on with."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import List, Optional, Sequence

from detectors.commands.train.model import configuration, starting_file
from detectors.experiment.recipe import Norm, Recipe, resolve

__all__ = ["MissingWeights", "find_missing", "stand_in"]


@dataclass(frozen=True)
class MissingWeights:
    """What a training would stop at."""

    name: str
    """As the recipe has it, `imagenet` too."""
    reason: str
    """Of the download: what happened, address, hash, and where to put the file by hand."""

    def lines(self) -> List[str]:
        """The finding, what else would do, and what the rest of the check is worth."""
        return [
            f"weights: {self.name} is missing, and a training would stop here",
            *self.reason.splitlines(),
            "  or check and train without: model.weights=random model.head=null",
            "what follows starts from random weights instead, with every layer trained",
        ]


def find_missing(
    recipe: Recipe, class_names: Sequence[Optional[str]], *, quiet: bool = False
) -> Optional[MissingWeights]:
    """None where the weights to start from are there, arrive now, or are random.

    Args:
        recipe: resolved.
        class_names: of the data, by label.
        quiet: show no line while weights arrive.

    Raises:
        FileNotFoundError: `model.weights` names neither a file nor published weights.
    """
    if recipe.model.weights == "random":
        return None
    try:
        starting_file(recipe.model, configuration(recipe, len(class_names)), quiet=quiet)
    except RuntimeError as error:
        return MissingWeights(recipe.model.weights, str(error))
    return None


def stand_in(recipe: Recipe) -> Recipe:
    """The same recipe from random weights, which nothing may be frozen of: a trunk of random
    weights, or norms without statistics, would have the rest learn from noise.
    """
    made = deepcopy(recipe)
    model = made.model
    model.weights, model.head, model.origin = "random", None, None
    model.norm, model.frozen_stages, model.frozen = Norm.auto, None, []
    return resolve(made)
