"""What stages cost by estimate: against counts by hand, the network's own count, and all cuts."""

from __future__ import annotations

from itertools import combinations
from typing import List, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors.__main__ import main
from detectors.commands.stages import recipe_costs
from detectors.experiment.recipe import load_recipe, resolve
from detectors.models.efficientdet.cost import count_multiply_adds
from detectors.models.efficientdet.inference import EfficientDet
from detectors.stage_costs import Costs, StageCost, measure_costs
from detectors.stage_plan import Method, plan
from detectors.stage_search import best_plan

RECOMPUTED, KEPT = Method(True, 1), Method(False, 1)
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
    # parameters, their bytes, those of the trained, multiply-adds, entering, passing (5 rows of 8)
    assert found.stage(0, 1) == StageCost(32, 128, 128, 5 * 32, 5 * 4 * 4, 0)
    assert found.stage(1, 2) == StageCost(64, 256, 256, 5 * 64, 5 * 8 * 4, 0)
    assert found.stage(2, 3).entering == 5 * 8 * 4  # their sum, made before the last block starts
    assert found.stage(0, 3).parameters == 32 + 64 + 16
    # the way back through the last sigmoid and product: 40 bytes each, and 160 of what entered
    assert found.peak(2, 3) == 40 + 160
    # through the first sigmoid: its result, and the gradients of that and of the product
    assert found.peak(0, 1) == 3 * 160
    # results of two sigmoids, of the sum; gradients of the second's result, of its product, and of
    # the first's result, which the sum takes, too
    assert found.peak(0, 2) == 160 + 160 + 3 * 160


def test_what_only_passes_a_stage_waits_there_once() -> None:
    class Skip(Three):
        def forward(self, x: Tensor) -> Tensor:
            first = self.network["a"](x)
            second = self.network["b"](first.detach() * 0 + 1)
            last: Tensor = self.network["c"](second) @ first[:2, :5]
            return last.sum()

    found = measure_costs(Skip().to("meta"), [torch.empty(5, 4, device="meta")])
    last = found.stage(2, 3)
    assert (last.entering, last.passing) == (160 + 160, 0)  # of a and of b
    middle = found.stage(1, 2)
    assert (middle.entering, middle.passing) == (160, 160)  # made behind a; made by a


def test_a_module_that_runs_again_holds_those_between() -> None:
    class Again(Three):
        def forward(self, x: Tensor) -> Tensor:
            b, c = self.network["b"], self.network["c"]
            last: Tensor = c(b(b(self.network["a"](x))))
            return last.sum()

    class Round(Three):
        def forward(self, x: Tensor) -> Tensor:
            a, b = self.network["a"], self.network["b"]
            last: Tensor = a(b(a(x))[:, :4])
            return last.sum()

    inputs = [torch.empty(5, 4, device="meta")]
    assert measure_costs(Again().to("meta"), inputs).names[1:] == ["b", "c"]
    assert "b" not in measure_costs(Round().to("meta"), inputs).units


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


class Chain(nn.Module):
    """Blocks of different widths, one after the other."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.network = nn.Sequential(*(Block(a, b) for a, b in zip(widths, widths[1:])))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x).sum()
        return out


@pytest.mark.parametrize("widths", [(4, 8, 64, 8, 32, 8, 16), (3, 3, 40, 2, 50, 1, 60)])
def test_the_best_cut_and_its_checkpoints_are_the_best_of_all(widths: Tuple[int, ...]) -> None:
    inputs = [torch.empty(50, widths[0], device="meta")]
    costs = measure_costs(Chain(*widths).to("meta"), inputs)
    names = costs.names[1:]
    fullest = [
        plan(costs, splits, kept, RECOMPUTED).fullest
        for splits in combinations(names, 1)
        for number in range(len(names))
        for kept in combinations([name for name in names if name not in splits], number)
    ]
    assert best_plan(costs, 2, RECOMPUTED).fullest == min(fullest)


def test_the_best_cut_of_a_network_is_no_fuller_than_any(costs: Costs) -> None:
    best = best_plan(costs, 2, KEPT)
    fullest = [plan(costs, [name], [], KEPT).fullest for name in costs.names[1:]]
    assert best.fullest == min(fullest)
    kept = best_plan(costs, 2, RECOMPUTED)
    assert kept.checkpoints
    assert kept.fullest < best.fullest


def test_what_is_recomputed_keeps_less(costs: Costs) -> None:
    splits = ["backbone.stages.2", "backbone.stages.5", "class_head"]
    again, whole = (
        [stage.memory for stage in plan(costs, splits, [], method).stages]
        for method in (RECOMPUTED, KEPT)
    )
    assert all(one < other for one, other in zip(again[:-1], whole))
    assert again[-1] == whole[-1]  # the last stage has one micro-batch either way


def test_a_checkpoint_is_kept_by_every_micro_batch_under_way(costs: Costs) -> None:
    splits = ["backbone.stages.2", "class_head"]
    without = plan(costs, splits, [], RECOMPUTED).stages[0]
    found = plan(costs, splits, ["backbone.stages.1"], RECOMPUTED).stages[0]
    entering = 2 * 16 * 64 * 64 * 2  # two maps of 16 channels of half precision
    assert (found.copies, found.kept) == (5, without.kept + entering)
    assert found.segment < without.segment
    assert found.memory - found.segment == without.memory - without.segment + 5 * entering


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (["bifpn.cells"], "no stage starts there"),
        (["class_head", "bifpn.cells.1"], "in the order they run"),
    ],
)
def test_splits_that_cut_nothing_are_refused(costs: Costs, splits: List[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(costs, splits, [], RECOMPUTED)


def test_the_command_prints_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "recipe=coco_d0"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("coco_d0: efficientdet-d0 · 512x512 · 90 classes")
    assert "484 of 897 MiB" in out  # what the recipe's head says
    assert "fits" in out
    assert "prefers" not in out


def test_the_command_proposes_a_cut_that_a_recipe_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "recipe=coco_d0", "ipus=2", *WORDS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("the estimate prefers, of 2 stages, with ")
    words = [word for word in WORDS if not word.startswith("pipeline.splits")]
    assert main(["stages", "recipe=coco_d0", *words, *lines[-2:]]) == 0
    again = capsys.readouterr().out
    assert f"takes {lines[-3].split()[-2]} of 897 MiB" in again


def test_what_does_not_fit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["micro_batch_size=8", "image.size=1024", "pipeline.splits=[]"]
    assert main(["stages", "recipe=coco_d0", *words]) == 0
    out = capsys.readouterr().out
    assert "does not fit" in out
    # 9 anchors x 90 classes at stride 8
    assert "class_head.predict, where one tensor (8, 810, 128, 128) has 405 MiB" in out


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "image.size=64"]) == 2
    assert main(["stages", "recipe=coco_d0", "classes=none"]) == 2
    assert main(["stages", "recipe=coco_d0", "ipus=0"]) == 2
    err = capsys.readouterr().err
    assert "classes must be a whole number" in err
    assert "ipus must be a whole number" in err
