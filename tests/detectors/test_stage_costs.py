"""What stages cost by estimate: against counts by hand, the network's own count, and all cuts."""

from __future__ import annotations

from itertools import combinations
from typing import List

import pytest
import torch
from torch import Tensor, nn

from detectors.__main__ import main
from detectors.commands.stages import recipe_costs
from detectors.experiment.recipe import load_recipe, resolve
from detectors.models.efficientdet.cost import count_multiply_adds
from detectors.models.efficientdet.inference import EfficientDet
from detectors.stage_costs import Costs, StageCost, measure_costs
from detectors.stage_plan import best_plan, plan

WORDS = ["image.size=128", "micro_batch_size=2", "pipeline.splits=[]", "data.max_boxes=4"]


class Block(nn.Module):
    """A product, then what autograd needs the result of."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x).sigmoid()
        return out


class Three(nn.Module):
    """Three blocks, where the last takes the first one's result, too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict({"a": Block(4, 8), "b": Block(8, 8), "c": Block(8, 2)})

    def forward(self, x: Tensor) -> Tensor:
        first = self.network["a"](x)
        last: Tensor = self.network["c"](self.network["b"](first) + first)
        return last.sum()


@pytest.fixture(scope="module")
def costs() -> Costs:
    return recipe_costs(resolve(load_recipe("coco_d0", WORDS)), 3)


def test_three_blocks_cost_what_is_counted_by_hand() -> None:
    found = measure_costs(Three().to("meta"), [torch.empty(5, 4, device="meta")])
    assert found.names[1:] == ["b", "c"]
    stages = [found.stage(unit, unit + 1) for unit in range(3)]
    # parameters, their bytes, those of the trained, multiply-adds, kept, entering (5 rows of 8)
    assert stages[0] == StageCost(32, 128, 128, 5 * 32, 5 * 8 * 4, 5 * 4 * 4)
    assert stages[1][:4] == (64, 256, 256, 5 * 64)
    assert stages[1].entering == 5 * 8 * 4
    assert stages[2].entering == 5 * 8 * 4  # their sum, made before the last block starts
    assert found.stage(0, 3).parameters == 32 + 64 + 16


def test_multiply_adds_and_parameters_are_the_networks(costs: Costs) -> None:
    model = recipe_model()
    counted = count_multiply_adds(model.network, (128, 128), model.config.max_level)
    heads_end = costs.units["box_head"]
    whole = costs.stage(0, len(costs.names))
    assert whole.parameters == sum(one.numel() for one in model.parameters())
    # of two pictures; the losses behind the box head multiply matrices, too
    assert costs.stage(0, heads_end).multiply_adds < 2 * counted <= whole.multiply_adds


def recipe_model() -> EfficientDet:
    from detectors import efficientdet

    return efficientdet("d0", num_classes=3, image_size=(128, 128))


def test_the_best_cut_is_the_best_of_all(costs: Costs) -> None:
    names = costs.names[1:]
    best = best_plan(costs, 3, True, 1)
    fullest = [max(plan(costs, two, True, 1).memory) for two in combinations(names, 2)]
    assert min(fullest) <= max(best.memory) <= 1.1 * min(fullest)


def test_what_is_recomputed_keeps_less(costs: Costs) -> None:
    splits = ["backbone.stages.2", "backbone.stages.5", "class_head"]
    again, whole = (plan(costs, splits, recompute, 1).memory for recompute in (True, False))
    assert all(one < other for one, other in zip(again[:-1], whole))
    assert again[-1] == whole[-1]  # the last stage has one micro-batch either way


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (["bifpn.cells"], "no stage starts there"),
        (["class_head", "bifpn.cells.1"], "in the order they run"),
    ],
)
def test_splits_that_cut_nothing_are_refused(costs: Costs, splits: List[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(costs, splits, True, 1)


def test_the_command_prints_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "recipe=coco_d0"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("coco_d0: efficientdet-d0 · 512x512 · 90 classes")
    assert "472 of 897 MiB" in out  # what the recipe's head says
    assert "fits" in out
    assert "prefers" not in out


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "image.size=64"]) == 2
    assert main(["stages", "recipe=coco_d0", "classes=none"]) == 2
    assert "classes must be a whole number" in capsys.readouterr().err
