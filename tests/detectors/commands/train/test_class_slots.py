"""Outputs of a model by COCO's ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.commands.train.class_slots import class_slots
from detectors.commands.train.datasets import open_datasets
from detectors.experiment.recipe import DataFormat, Recipe
from detectors.weights.coco_names import COCO_90


def test_ids_are_slots_and_holes_stay_free() -> None:
    slots = class_slots(["newt", "frog"], [4, 2], "ids")
    assert slots.names == (None, "frog", None, "newt")
    assert slots.labels == (3, 1)
    assert class_slots(["newt", "frog"], [4, 2], "order") == (("newt", "frog"), None)


def test_cocos_categories_have_automls_ninety_slots() -> None:
    ids = [label + 1 for label, name in enumerate(COCO_90) if name]
    names = [name for name in COCO_90 if name]
    assert class_slots(names, ids, "ids").names == COCO_90
    some = class_slots(["dog", "person"], [18, 1], "ids")
    assert len(some.names) == 90
    assert (some.names[17], some.names[0], some.labels) == ("dog", "person", (17, 0))


@pytest.mark.parametrize("number", [0, 100_000])
def test_an_id_that_is_no_slot_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"the data has the id {number}: data.labels=order"):
        class_slots(["newt", "frog"], [1, number], "ids")


def coco(root: Path, labels: str) -> Recipe:
    recipe = Recipe()
    recipe.data.format, recipe.data.root = DataFormat.coco, str(root / "coco")
    recipe.data.train, recipe.data.val = ["train2017"], ["val2017"]
    recipe.data.labels = labels
    return recipe


def test_training_samples_have_the_labels_of_slots(shared_data: Path) -> None:
    slots = open_datasets(coco(shared_data, "ids"))
    plain = open_datasets(coco(shared_data, "order"))
    assert slots.class_names == COCO_90
    assert slots.val is not None
    assert len(slots.val.annotations.class_names) == 80  # who judges knows no holes
    assert slots.category_ids == plain.category_ids
    assert slots.ids_by_label == tuple(name and label + 1 for label, name in enumerate(COCO_90))
    assert plain.ids_by_label == plain.category_ids
    assert (slots.lines, slots.fingerprint) == (plain.lines, plain.fingerprint)  # the same data
    crowds = 0
    for index in range(len(slots.train)):
        ours, theirs = slots.train[index].labels.tolist(), plain.train[index].labels.tolist()
        wanted = [-1 if label < 0 else plain.category_ids[label] - 1 for label in theirs]
        assert ours == wanted
        crowds += wanted.count(-1)
    assert crowds == 4


def test_slots_have_their_own_ids_in_whatever_order_the_classes_are(shared_data: Path) -> None:
    recipe = coco(shared_data, "ids")
    recipe.data.classes = ["dog", "person"]
    ids = open_datasets(recipe).ids_by_label
    assert {label: number for label, number in enumerate(ids) if number} == {0: 1, 17: 18}
    recipe.data.labels = "order"
    assert open_datasets(recipe).ids_by_label == (18, 1)
