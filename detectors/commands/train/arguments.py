"""What `train.py` takes on its command line: `recipe=NAME key=value ...`. Imports nothing of torch:
the list of recipes and a mistyped key are answered at once.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import List, Sequence

from detectors.commands.evaluate.arguments import evaluation_recipe
from detectors.experiment.recipe import Recipe, list_recipes, load_recipe, recipe_yaml, resolve
from detectors.experiment.run_folder import CONFIG, LAST

__all__ = ["FLAGS", "USAGE_TEXT", "parse"]

FLAGS = ("--recipes", "--cfg", "--help", "-h", "--debug")

USAGE_TEXT = """usage: python train.py recipe=NAME [key=value ...]

  recipe=NAME       a file of recipes/, or the path of one, such as a run's config.yaml
  key=value         change a setting: data.root=/d/VOCdevkit optim.lr=0.01 seed=3
  weights=FILE      start from a checkpoint, or the weights of others; where it has other classes,
                    head=map keeps the rows of those that the data has too, head=new keeps none
  resume=auto       go on with the newest unfinished run of this recipe; or resume=runs/NAME/3
  task=check        look at data, disk and one batch, and train nothing
  task=throughput   measure the step, and end
  task=evaluate weights=runs/NAME/3/best.ckpt
  --recipes         list the recipes
  --cfg             print all settings of the recipe, resolved, and stop
  --debug           show tracebacks

exit codes: 0 done, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM (both saved first)"""


def parse(words: Sequence[str]) -> Recipe:
    """The recipe that a command line asks for.

    Raises:
        ValueError: something is unknown, missing or out of range; the message says what would do.
        SystemExit: after `--help`, `--recipes`, `--cfg`, or no word at all.
    """
    settings = [word for word in words if not word.startswith("-")]
    flags = [word for word in words if word.startswith("-")]
    if "--help" in flags or "-h" in flags:
        print(USAGE_TEXT)
        raise SystemExit(0)
    if "--recipes" in flags or not words:
        print(recipes_text())
        raise SystemExit(0)
    for flag in flags:
        if flag not in FLAGS:
            raise ValueError(unknown_flag(flag, words))
    if "--cfg" in flags:  # Hydra's own spelling has a word behind it
        settings = [word for word in settings if word != "job"]
    recipe = load(settings)
    if "--cfg" in flags:
        print(recipe_yaml(resolve(recipe)), end="")
        raise SystemExit(0)
    return recipe


def load(settings: Sequence[str]) -> Recipe:
    """The recipe that is named, changed by the other words."""
    if "task=evaluate" in settings:
        return evaluation_recipe(settings)
    names = [value_of(word) for word in settings if word.startswith("recipe=")]
    others = [word for word in settings if not word.startswith("recipe=")]
    if len(names) > 1:
        raise ValueError(f"recipe= is given {len(names)} times: {', '.join(names)}; a run has one")
    if names:
        return load_recipe(names[0], others)
    for word in others:
        if word.startswith("resume=") and value_of(word) != "auto":
            config = config_of(Path(value_of(word)))
            if not config.is_file():
                raise FileNotFoundError(f"{word}: no {config}; name a run folder or its {LAST}")
            return load_recipe(str(config), others)
    raise ValueError(no_recipe(others))


def value_of(word: str) -> str:
    return word.partition("=")[2]


def config_of(run: Path) -> Path:
    """The stored recipe of a run folder, or of a checkpoint in it."""
    return (run.parent if run.suffix == ".ckpt" else run) / CONFIG


def recipe_names() -> List[str]:
    return [name for name, _ in list_recipes()]


def recipes_text() -> str:
    """One line for each recipe, and what to type."""
    listed = list_recipes()
    width = max((len(name) for name, _ in listed), default=0)
    lines = [f"{name:{width}}  {about}" for name, about in listed]
    return "\n".join([*lines, "", "python train.py recipe=NAME [key=value ...]; --help has more"])


def unknown_flag(flag: str, words: Sequence[str]) -> str:
    """Settings are words without dashes here."""
    name, equals, value = flag.lstrip("-").partition("=")
    near = difflib.get_close_matches(flag, FLAGS, n=1, cutoff=0.7)
    if near and name not in {"recipe", *(field.name for field in fields(Recipe))}:
        return f"unknown option '{flag}'; did you mean {near[0]}?"
    if not equals:
        after = list(words[list(words).index(flag) + 1 :])
        value = after[0] if after and "=" not in after[0] else "…"
    return f"unknown option '{flag}'; settings have no dashes: write {name}={value}"


def no_recipe(words: Sequence[str]) -> str:
    """Nothing says which recipe; one of the words may have been meant to."""
    names = recipe_names()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and (key in names or Path(key).suffix in (".yaml", ".yml")):
            return f"unknown word '{word}'; write recipe={word}"
        if equals and difflib.get_close_matches(key, ["recipe"], cutoff=0.6):
            near = difflib.get_close_matches(value, names, n=1)
            return f"unknown key '{key}'; did you mean recipe={near[0] if near else value}?"
    return f"name a recipe, such as recipe=generated\nrecipes: {', '.join(names)}"
