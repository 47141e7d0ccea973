"""The training graph of each recipe at its full size: one run under fake tensors."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
import torch
from torch import Tensor

from detectors.commands.train.model import build_detector, configuration
from detectors.experiment.recipe import Recipe, image_size, load_recipe, poptorch_options
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

pytestmark = pytest.mark.skipif(not IS_HOST, reason="the SDK's compiler takes an hour a model")

RECIPES = Path(__file__).resolve().parents[4] / "recipes"
NAMES = sorted(file.stem for file in RECIPES.glob("*.yaml"))
BETWEEN = ("coco_d1", "coco_d2", "coco_d3", "coco_d4", "coco_d5", "coco_d6", "coco_d7")
"""Recipes between two that are compiled every time."""
OURS = {"poplar_ops::Nms", "poplar_ops::RoiAlign", "poplar_ops::topk_select"}
NUM_CLASSES = 20


def inputs(recipe: Recipe) -> Tuple[Tensor, ...]:
    """What one call takes; one picture's memory, however many there are."""
    count = recipe.images_per_step * recipe.device_iterations
    return (
        torch.zeros(1, 3, *image_size(recipe), dtype=torch.uint8).expand(count, -1, -1, -1),
        torch.zeros(count, recipe.data.max_boxes, 4),
        torch.full((count, recipe.data.max_boxes), -1, dtype=torch.int32),
        torch.zeros(count, dtype=torch.int32),
    )


def compiled(recipe: Recipe, *, half: bool) -> poptorch.PoplarExecutor:
    """Its training executor, compiled for no device."""
    model = build_detector(configuration(recipe, NUM_CLASSES))
    if half:  # what `precision: mixed` is on an IPU
        for name in model.half_parts:
            model.network.get_submodule(name).half()
    training = apply_splits(model.for_training(), recipe.pipeline.splits)
    optimizer = poptorch.optim.SGD(
        [value for value in training.parameters() if value.requires_grad], lr=recipe.optim.lr
    )
    options = poptorch_options(recipe).useOfflineIpuTarget()
    executor = poptorch.trainingModel(training, options, optimizer=optimizer)
    executor.compile(*inputs(recipe))
    return executor


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.slow) if one in BETWEEN else one for one in NAMES],
)
def test_a_recipe_compiles_with_listed_operators_and_ours(name: str) -> None:
    from poptorch_host import host

    recipe = load_recipe(name)
    # A pipeline that comes back to a stage is refused: each is entered once.
    report = host.report(compiled(recipe, half=False))
    assert report.unsupported == []
    own = {name for name in report.operators if not name.startswith(("aten::", "poptorch::"))}
    assert own == (OURS if recipe.model.name == "faster_rcnn" else set())
    assert len(report.stages) == len(recipe.pipeline.splits) + 1


@pytest.mark.parametrize("name", [name for name in NAMES if "mixed" in name][:1])
def test_the_half_trunk_of_a_mixed_recipe_compiles(name: str) -> None:
    from poptorch_host import host

    report = host.report(compiled(load_recipe(name), half=True))
    assert report.unsupported == []


@pytest.mark.parametrize(("name", "stages"), [("voc0712_mixed", 4), ("voc0712_fp32", 8)])
def test_the_seeds_recipes_have_their_stages(name: str, stages: int) -> None:
    splits: List[str] = load_recipe(name).pipeline.splits
    assert len(splits) + 1 == stages
