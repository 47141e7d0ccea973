"""Roots that hold a part of a dataset, and words of other projects for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.commands.train.datasets import open_datasets
from detectors.experiment.recipe import DataFormat, Recipe, load_recipe

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax>"
    "<ymax>10</ymax></bndbox></object></annotation>"
)


def test_annotations_without_their_images_say_what_the_root_must_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.xml").write_text(XML)
    recipe = Recipe()
    recipe.data.root, recipe.data.format = str(tmp_path), DataFormat.auto
    with pytest.raises(ValueError, match=r"none of the 2 annotations at .* has its image there"):
        open_datasets(recipe)


@pytest.mark.parametrize("word", ["root", "path", "dataset", "data_dir"])
def test_other_words_for_the_root_are_answered_with_ours(word: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean data\.root \(now "):
        load_recipe("custom_d0", [f"{word}=/d/mine"])


def test_a_class_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"data\.classes must be .* each once"):
        load_recipe("custom_d0", ["data.classes=[cat,dog,cat]"])
