"""The recipes of a clone: where they lie, and what each is in one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import List, Tuple, Union

from detectors.experiment.run_folder import CONFIG
from detectors.experiment.structured import find_recipe

__all__ = ["RECIPES", "list_recipes", "recipe_file"]

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def list_recipes() -> List[Tuple[str, str]]:
    """(name, first line of its comment) of each, by name."""
    return [(file.stem, first_comment(file)) for file in sorted(RECIPES.glob("*.yaml"))]


def first_comment(file: Path) -> str:
    """The text of a file's first line; empty where that is no comment."""
    with file.open(encoding="utf-8") as lines:
        line = next(lines, "")
    return line.lstrip("#").strip() if line.startswith("#") else ""


def recipe_file(path_or_name: Union[str, Path]) -> Path:
    """The file of a recipe: of its name in `recipes/`, or of its path, or in a run folder.

    Raises:
        ValueError: no recipe of that name.
        FileNotFoundError: no such file.
    """
    path = Path(path_or_name)
    named = RECIPES / f"{path_or_name}.yaml"
    if named.is_file():
        return named
    if (path / CONFIG).is_file():
        return path / CONFIG
    by_path = isinstance(path_or_name, Path) or path.suffix in (".yaml", ".yml")
    if not by_path and path.name == str(path_or_name):
        return find_recipe(RECIPES, path.name, "recipe")
    if not path.is_file():
        names = [name for name, _ in list_recipes()]
        near = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.6)
        hint = f"\ndid you mean recipe={near[0]}?" if near else ""
        raise FileNotFoundError(f"no recipe file {path}{hint}\nrecipes: {', '.join(names)}")
    return path
