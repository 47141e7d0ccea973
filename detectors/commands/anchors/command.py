"""`python -m detectors anchors`: a dataset's boxes held against a recipe's anchors, and others that
fit them better. Writes nothing.
"""

from __future__ import annotations

from typing import List, Sequence

from detectors.commands.screen import guarded
from detectors.experiment.recipe import Recipe, load_recipe, resolve

__all__ = ["main"]

USAGE_TEXT = """usage: python -m detectors anchors recipe=NAME [key=value ...]

  recipe=NAME       a file of recipes/, or the path of one: its data, image.size and model count
  key=value         change a setting: data.root=/d/mine image.size=512 model.pyramid.octaves=2
  --debug           show tracebacks

Says how many of the boxes to train on no anchor reaches, by class and by size, and suggests
anchors that fit better, as words for the command line of train.py.
exit codes: 0 done, 1 failed, 2 wrong command"""

MAX_BOXES = 20_000  # k-means over more finds the same


def main(words: Sequence[str]) -> int:
    """`python -m detectors anchors WORDS`; returns the exit code."""
    settings = [word for word in words if word != "--debug"]
    if not settings or "--help" in settings or "-h" in settings:
        print(USAGE_TEXT)
        return 0 if settings else 2
    return guarded(lambda: anchors(parse(settings)), debug=len(settings) < len(words))


def parse(words: Sequence[str]) -> Recipe:
    """The recipe of a command line.

    Raises:
        ValueError: an unknown word, no recipe or several.
    """
    for word in words:
        if "=" not in word or word.startswith("-"):
            raise ValueError(
                f"unknown word '{word}'; write recipe=NAME, and key=value for settings"
            )
    names = [word.partition("=")[2] for word in words if word.startswith("recipe=")]
    if len(names) != 1:
        raise ValueError(
            f"anchors needs one recipe=NAME, which says data, size and model; got {len(names)}"
        )
    return load_recipe(names[0], [word for word in words if not word.startswith("recipe=")])


def anchors(recipe: Recipe) -> int:
    """Print coverage and suggestion; what it raises is explained by `guarded`."""
    from detectors.commands.infer.device import calm_threads

    calm_threads()  # before anything imports torch
    from detectors.commands.anchors.held import boxes_of, hold
    from detectors.commands.anchors.suggestion import suggest, words
    from detectors.commands.anchors.tables import coverage_table
    from detectors.commands.train.datasets import open_datasets
    from detectors.commands.train.model import configuration

    recipe = resolve(recipe)
    datasets = open_datasets(recipe)
    config = configuration(recipe, len(datasets.class_names))
    boxes, labels = boxes_of(recipe, datasets.train, MAX_BOXES)
    found = hold(config, boxes)
    height, width = config.image_size
    better = suggest(config, boxes, recipe.seed)
    columns = [("now" if better else "", found)]
    last = "suggestion: none; nothing that was tried leaves fewer boxes or fits them better"
    if better is not None:
        columns.append(("suggested", better.coverage))
        last = f"suggestion: {better.words}"
    lines: List[str] = [
        *datasets.lines,
        f"{config.name} {height}x{width}: {config.num_anchors} anchors a cell, the smallest"
        f" {found.smallest:.3g} px; boxes as they lie in that input, without augmentation",
        "",
        *coverage_table(columns, boxes, labels, datasets.train.annotations.class_names),
        "",
        f"no anchor: the best has an IoU under {found.threshold:g}; smaller: than every anchor;"
        " best IoU: the mean",
        f"now: {words(config)}",
        last,
    ]
    print("\n".join(lines))
    return 0
