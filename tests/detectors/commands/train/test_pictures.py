"""What a recipe says of pictures, as what `data` takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Sequence

import pytest

from data.albumentations import AlbumentationsTransform
from data.augmentation import Augmentation
from data.collate import collate
from data.policies import HidingTransform
from detectors import efficientdet
from detectors.commands.train.datasets import open_datasets
from detectors.commands.train.folder import record_of
from detectors.commands.train.model import build_model
from detectors.commands.train.pictures import augmentation_of, detection_data, first_change
from detectors.commands.train.plan import Plan
from detectors.experiment.recipe import Recipe, load_recipe
from detectors.weights import save
from detectors.weights.preprocess import EFFDET_LITE

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
    with pytest.raises(
        FileNotFoundError, match=r"compose gridmaks: no such file .* and none of .*gridmask"
    ):
        first_change(recipe(["augment=albumentations", "augment.compose=gridmaks"]))


def test_a_pipeline_that_nothing_would_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"augment.compose=gridmask is run by augment=albument"):
        recipe(["augment.compose=gridmask"])


@needs_library
@pytest.mark.parametrize("name", ["gridmask", "autoaugment"])
def test_a_pipeline_by_its_name(name: str) -> None:
    change = first_change(recipe(["augment=albumentations", f"augment.compose={name}"]))
    assert isinstance(change, AlbumentationsTransform)
    assert isinstance(change, HidingTransform) is (name == "gridmask")


def test_pictures_lie_on_the_colour_of_the_weights(tmp_path: Path) -> None:
    # Training and evaluation took ImageNet's mean for all weights, and a run from effdet's lite
    # ones called itself AdvProp's, which have the same mean: infer.py then padded with black.
    lite = efficientdet("lite0", 3, image_size=64)
    lite.configure(mean=EFFDET_LITE.mean, std=EFFDET_LITE.std)
    names = ("circle", "square", "triangle")
    path = save(lite, tmp_path / "lite0.pt", classes=names, preprocess=EFFDET_LITE)
    words = ["image.size=64", "data.count=[2,2]", f"model.weights={path}"]
    settings = load_recipe("generated_d0", ["model.name=efficientdet-lite0", *words])
    model, report = build_model(settings, names)
    wide = open_datasets(load_recipe("generated_d0", [*words[1:], "image.size=[32,64]"]))
    plan = Plan(settings, "cpu", wide, model, report, None)
    data = detection_data(settings, wide, plan.preprocess.pad)
    assert data.evaluation is not None
    pictures = collate([data.evaluation[0]], 4).images  # (1, 3, 64, 64), the lower half beside it
    assert set(pictures[0, :, 32:].flatten().tolist()) == {128}
    assert record_of(plan)["preprocess"]["pad"] == list(EFFDET_LITE.pad)
    random = Plan(settings, "cpu", wide, efficientdet("d0", image_size=64), None, None)
    assert random.preprocess.pad == (124, 116, 104)
