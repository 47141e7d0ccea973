"""`python -m detectors anchors`: what it says holds, and what it suggests can be typed."""

from __future__ import annotations

import re
from typing import List

import pytest
import torch

from detectors.__main__ import main
from detectors.commands.anchors.held import boxes_of, coverage_line, hold
from detectors.commands.anchors.suggestion import suggest, words
from detectors.commands.train.datasets import open_datasets
from detectors.commands.train.model import configuration
from detectors.experiment.recipe import Recipe, load_recipe, resolve

WORDS = ["data.format=generated", "data.count=[30,5]", "data.workers=0", "data.classes=null"]
FAMILIES = {
    "efficientdet": ["bccd_d0", "image.size=[96,128]", "model.pyramid.scale=7", *WORDS],
    "faster_rcnn": ["generated", "image.size=[96,128]", "model.anchors.sizes=[70,90]", *WORDS],
}


@pytest.fixture(params=sorted(FAMILIES))
def typed(request: pytest.FixtureRequest) -> List[str]:
    """A recipe's name and words under which anchors are too large for the shapes."""
    return list(FAMILIES[request.param])


def recipe_of(typed: List[str], *more: str) -> Recipe:
    return resolve(load_recipe(typed[0], [*typed[1:], *more]))


def command(typed: List[str], *more: str) -> int:
    return main(["anchors", f"recipe={typed[0]}", *typed[1:], *more])


def test_the_table_is_of_the_data_and_the_suggestion_can_be_typed(
    typed: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(typed) == 0
    shown = capsys.readouterr().out
    recipe = recipe_of(typed)
    datasets = open_datasets(recipe)
    boxes, labels = boxes_of(recipe, datasets.train)
    config = configuration(recipe, len(datasets.class_names))
    before = hold(config, boxes)
    number = len(boxes)
    share = f"{100 * before.share_unreached:.1f} %"
    assert re.search(rf"^all +{number} +{share} +\S+ % +{before.mean_best:.3f} ", shown, re.M)
    for label, name in enumerate(datasets.class_names):
        assert re.search(rf"^{name} +{int((labels == label).sum())} ", shown, re.M)
    assert f"now: {words(config)}" in shown

    found = re.search(r"^suggestion: (\S.*)$", shown, re.M)
    assert found is not None
    other = configuration(recipe_of(typed, *found.group(1).split()), len(datasets.class_names))
    after = hold(other, boxes)
    assert after.share_unreached < before.share_unreached
    row = rf"^all .* {100 * after.share_unreached:.1f} % +\S+ % +{after.mean_best:.3f}$"
    assert re.search(row, shown, re.M)
    assert other.num_anchors <= config.num_anchors

    assert command(typed) == 0
    assert capsys.readouterr().out == shown  # nothing is drawn anew


def test_what_was_suggested_is_not_improved_by_asking_again(typed: List[str]) -> None:
    recipe = recipe_of(typed)
    boxes, _ = boxes_of(recipe, open_datasets(recipe).train)
    better = suggest(configuration(recipe, 3), boxes, seed=0)
    assert better is not None
    assert suggest(better.config, boxes, seed=0) is None


def test_the_header_says_how_many_boxes_are_reached(typed: List[str]) -> None:
    recipe = recipe_of(typed)
    train = open_datasets(recipe).train
    config = configuration(recipe, 3)
    found = hold(config, boxes_of(recipe, train)[0])
    line = coverage_line(recipe, train, config)
    reached = f"{100 * (1 - found.share_unreached):.1f}"
    assert line.startswith(f"anchors reach {reached} % of {len(found.best)} boxes (IoU 0.")
    assert f"{100 * found.share_smaller:.1f} % are smaller than the smallest" in line
    assert line.endswith("python -m detectors anchors suggests others")


def test_small_boxes_are_the_ones_that_large_anchors_miss() -> None:
    recipe = recipe_of(FAMILIES["efficientdet"])
    found = hold(
        configuration(recipe, 3),
        torch.tensor([[8.0, 8.0, 12.0, 12.0], [20.0, 20.0, 84.0, 84.0]]),
    )
    assert found.unreached.tolist() == [True, False]
    assert found.smallest == 56.0  # seven strides of eight pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=x"], "anchors needs one recipe=NAME"),
        (["recipe=generated", "recipe=bccd_d0"], "got 2"),
        (["recipe=generated", "--all"], "unknown word '--all'"),
        (["recipe=no_such_recipe"], "no_such_recipe"),
        (["recipe=bccd_d0", "data.root=/no/such/place"], "/no/such/place"),
        (["recipe=bccd_d0", "model.pyramid.scale=0"], "model.pyramid.scale must be a number > 0"),
        (["recipe=bccd_d0", "model.pyramid.scale=[4,5,x]"], "one for each level"),
        (["recipe=bccd_d0", "model.pyramid.aspects=[[1,1],[2]]"], "pairs \\[width, height\\]"),
        (["recipe=bccd_d0", "model.pyramid.aspects=wide"], "must be exact, rounded, or pairs"),
    ],
)
def test_a_wrong_command_is_told_and_ends_with_two(
    arguments: List[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["anchors", *arguments]) == 2
    shown = capsys.readouterr()
    assert re.search(message, shown.err)
    assert not shown.out


def test_help_ends_with_zero_and_nothing_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anchors", "--help"]) == 0
    assert main(["anchors"]) == 2
    assert capsys.readouterr().out.count("usage: python -m detectors anchors recipe=NAME") == 2
