"""`python -m detectors stages recipe=NAME`: what each stage of a recipe's training costs, and
whether it fits an IPU. Nothing is trained, read or downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from detectors.commands.screen import guarded
from detectors.experiment.recipe import Precision, Recipe, image_size, load_recipe, resolve

if TYPE_CHECKING:  # torch waits until the command line has been understood
    from detectors.stage_costs import Costs
    from detectors.stage_plan import Method, Plan

__all__ = ["main", "recipe_costs", "table"]

USAGE_TEXT = """usage: python -m detectors stages recipe=NAME [key=value ...]

  recipe=NAME    a file of recipes/, or the path of one
  ipus=N         propose a cut into N stages, with its checkpoints; takes a minute
  key=value      change a setting: micro_batch_size=2 pipeline.splits=[bifpn,class_head,box_head]
  classes=N      where the recipe names no classes; 90 unless told
  --debug        show tracebacks

exit codes: 0 shown, whether it fits or not; 1 failed, 2 wrong command"""

CLASSES = 90  # of a recipe that does not name them
OPTIMIZER_TENSORS = {"sgd": 1, "rmsprop": 1}  # of each weight; 2 for the others
MEGA = 1 << 20


def main(words: Sequence[str]) -> int:
    """`python -m detectors stages WORDS`; returns the exit code."""
    settings = [word for word in words if word != "--debug"]
    if not settings or "--help" in settings or "-h" in settings:
        print(USAGE_TEXT)
        return 0 if settings else 2
    return guarded(lambda: show(settings), debug=len(settings) < len(words))


def show(words: Sequence[str]) -> int:
    """Print the table; returns 0.

    Raises:
        ValueError: an unknown word or key, or splits that start no stage.
        FileNotFoundError: no such recipe.
    """
    recipe, classes, ipus = arguments(words)
    costs = recipe_costs(recipe, classes)
    print("\n".join(table(recipe, classes, costs)))
    if ipus is not None:
        print("\n".join(proposal(recipe, costs, ipus)))
    return 0


def arguments(words: Sequence[str]) -> Tuple[Recipe, int, Optional[int]]:
    """The recipe, the number of classes, and for how many IPUs to propose a cut."""
    names = [word.partition("=")[2] for word in words if word.startswith("recipe=")]
    counts = whole_numbers(words, "classes")
    ipus = whole_numbers(words, "ipus")
    if len(names) != 1:
        raise ValueError(f"stages takes recipe=NAME once, got it {len(names)} times")
    own = ("recipe=", "classes=", "ipus=")
    others = [word for word in words if not word.startswith(own)]
    recipe = resolve(load_recipe(names[0], others))
    named = len(recipe.data.classes or ()) or CLASSES
    return recipe, counts[-1] if counts else named, ipus[-1] if ipus else None


def whole_numbers(words: Sequence[str], key: str) -> List[int]:
    """What `key`=N says.

    Raises:
        ValueError: N is no whole number from 1 on.
    """
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    for value in values:
        if not value.isdigit() or int(value) < 1:
            raise ValueError(f"{key} must be a whole number >= 1, got {value!r}")
    return [int(value) for value in values]


def recipe_costs(recipe: Recipe, classes: int) -> Costs:
    """Of one micro-batch of a resolved recipe, in the precision it has on an IPU."""
    import torch

    from detectors.commands.train.model import build_detector, configuration
    from detectors.stage_costs import measure_costs

    model = build_detector(configuration(recipe, classes))
    if recipe.precision is Precision.mixed:
        for name in model.half_parts:
            model.network.get_submodule(name).half()
    batch, boxes = recipe.micro_batch_size, recipe.data.max_boxes
    inputs = (
        torch.empty(batch, 3, *image_size(recipe), dtype=torch.uint8, device="meta"),
        torch.empty(batch, boxes, 4, device="meta"),
        torch.empty(batch, boxes, dtype=torch.int32, device="meta"),
        torch.empty(batch, dtype=torch.int32, device="meta"),
    )
    return measure_costs(model.for_training().to("meta"), inputs)


def method_of(recipe: Recipe) -> Method:
    """How the recipe runs on its stages."""
    from detectors.stage_plan import Method

    per_weight = OPTIMIZER_TENSORS.get(recipe.optim.name.value, 2)
    several = len(recipe.pipeline.splits) > 0
    return Method(recipe.pipeline.recompute and several, per_weight)


def table(recipe: Recipe, classes: int, costs: Costs) -> List[str]:
    """The lines of the screen for the recipe's own cut."""
    from detectors.stage_plan import plan

    pipeline = recipe.pipeline
    method = method_of(recipe)
    chosen = plan(costs, pipeline.splits, pipeline.checkpoints, method)
    height, width = image_size(recipe)
    half = "mixed" if recipe.precision is Precision.mixed else "fp32"
    again = ", recomputed" if method.recompute else ""
    lines = [
        f"{recipe.name}: {recipe.model.name} · {height}x{width} · {classes} classes ·"
        f" micro-batch {recipe.micro_batch_size}, {half}{again}, {recipe.optim.name.value}",
        "stage  parameters     GMAC   segment      kept  copies    memory  starts with",
    ]
    for number, stage in enumerate(chosen.stages):
        start = chosen.splits[number - 1] if number else "the images"
        checkpoints = f", {len(stage.checkpoints)} checkpoints" if stage.checkpoints else ""
        lines.append(
            f"{number:5}  {stage.cost.parameters / 1e6:8.2f} M"
            f" {stage.cost.multiply_adds / 1e9:8.2f}  {stage.segment / MEGA:4.0f} MiB"
            f" {stage.kept / MEGA:5.1f} MiB  {stage.copies:6}"
            f"  {stage.memory / MEGA:4.0f} MiB  {start}{checkpoints}"
        )
    return [*lines, *verdict(chosen, costs, recipe.ipu.available_memory_proportion)]


def verdict(chosen: Plan, costs: Costs, proportion: float) -> List[str]:
    """Whether it fits, and where it does not what is in the way."""
    from detectors.stage_plan import TILE_MEMORY, usable

    share = chosen.fullest / TILE_MEMORY
    words = (
        "fits"
        if share <= usable(proportion)
        else "tight: temporary data and code may not fit beside it"
        if share <= 1
        else "does not fit"
    )
    lines = [
        f"by estimate the fullest stage takes {chosen.fullest / MEGA:.0f} of"
        f" {TILE_MEMORY / MEGA:.0f} MiB of an IPU's tile memory ({100 * share:.0f} %): {words}"
    ]
    if share > usable(proportion):
        unit = max(range(len(costs)), key=lambda unit: costs.peak(unit, unit + 1))
        largest = costs.largest(unit, unit + 1)
        lines.append(
            f"no cut and no checkpoint takes less than {costs.peak(unit, unit + 1) / MEGA:.0f} MiB:"
            f" so much is alive in {costs.names[unit] or 'the first unit'}, where one tensor"
            f" {largest.shape} has {largest.size / MEGA:.0f} MiB"
        )
    return [*lines, "of weights, gradients, momenta, maps and theirs; nothing was compiled"]


def proposal(recipe: Recipe, costs: Costs, count: int) -> List[str]:
    """The cut into `count` stages that the estimate prefers, as settings of a recipe."""
    from detectors.stage_plan import TILE_MEMORY, usable
    from detectors.stage_search import best_plan

    method = method_of(recipe)._replace(recompute=count > 1)
    fits = usable(recipe.ipu.available_memory_proportion) * TILE_MEMORY
    best = best_plan(costs, count, method, fits)
    return [
        f"the estimate prefers, of {count} stages, with {best.fullest / MEGA:.0f} MiB:",
        f"pipeline.splits=[{','.join(best.splits)}]",
        f"pipeline.checkpoints=[{','.join(best.checkpoints)}]",
    ]
