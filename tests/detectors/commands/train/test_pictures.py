"""What a recipe says of pictures, as what `data` takes."""

from __future__ import annotations

import importlib.util
from typing import Sequence

import pytest

from data.albumentations import AlbumentationsTransform
from data.augmentation import Augmentation
from data.policies import HidingTransform
from detectors.commands.train.pictures import augmentation_of, first_change
from detectors.experiment.recipe import Recipe, load_recipe

INSTALLED = importlib.util.find_spec("albumentations") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="albumentations is not installed")


def recipe(words: Sequence[str]) -> Recipe:
    return load_recipe("generated", list(words))


def test_place_and_mosaics_reach_the_pictures() -> None:
    words = ["augment.place=corner", "augment.mosaic=0.25", "augment.mosaic_close=0.5"]
    made = augmentation_of(recipe(words))
    assert (made.place, made.mosaic, made.mosaic_close) == ("corner", 0.25, 0.5)
    assert augmentation_of(recipe([*words, "augment=none"])) == Augmentation()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("augment.place=left", "augment.place must be one of middle, anywhere, corner, got 'left'"),
        ("augment.mosaic=2", r"augment.mosaic must be a number 0..1, got 2"),
        ("augment.mosaic_close=-1", r"augment.mosaic_close must be a number 0..1, got -1"),
    ],
)
def test_values_out_of_range_are_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe([word])


def test_no_pipeline_without_its_name() -> None:
    assert first_change(recipe([])) is None
    with pytest.raises(ValueError, match=r"augment.compose=autoaugment\|gridmask, or .*FILE"):
        first_change(recipe(["augment=albumentations"]))
    with pytest.raises(FileNotFoundError, match="compose gridmaks: no such file"):
        first_change(recipe(["augment=albumentations", "augment.compose=gridmaks"]))


@needs_library
@pytest.mark.parametrize("name", ["gridmask", "autoaugment"])
def test_a_pipeline_by_its_name(name: str) -> None:
    change = first_change(recipe(["augment=albumentations", f"augment.compose={name}"]))
    assert isinstance(change, AlbumentationsTransform)
    assert isinstance(change, HidingTransform) is (name == "gridmask")
