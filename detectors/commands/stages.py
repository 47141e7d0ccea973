"""`python -m detectors stages recipe=NAME`: what each stage of a recipe's training costs, and
whether it fits an IPU. Nothing is trained, read or downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence, Tuple

from detectors.commands.screen import guarded
from detectors.experiment.recipe import Precision, Recipe, image_size, load_recipe, resolve

if TYPE_CHECKING:  # torch waits until the command line has been understood
    from detectors.stage_costs import Costs
    from detectors.stage_plan import Plan

__all__ = ["main", "recipe_costs", "table"]

USAGE_TEXT = """usage: python -m detectors stages recipe=NAME [key=value ...]

  recipe=NAME    a file of recipes/, or the path of one
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
    recipe, classes = arguments(words)
    print("\n".join(table(recipe, classes)))
    return 0


def arguments(words: Sequence[str]) -> Tuple[Recipe, int]:
    """The recipe and the number of classes."""
    names = [word.partition("=")[2] for word in words if word.startswith("recipe=")]
    counts = [word.partition("=")[2] for word in words if word.startswith("classes=")]
    if len(names) != 1:
        raise ValueError(f"stages takes recipe=NAME once, got it {len(names)} times")
    if any(not count.isdigit() or int(count) < 1 for count in counts):
        raise ValueError(f"classes must be a whole number >= 1, got {counts[-1]!r}")
    others = [word for word in words if not word.startswith(("recipe=", "classes="))]
    recipe = resolve(load_recipe(names[0], others))
    named = len(recipe.data.classes or ()) or CLASSES
    return recipe, int(counts[-1]) if counts else named


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


def table(recipe: Recipe, classes: int) -> List[str]:
    """The lines of the screen."""
    from detectors.stage_plan import best_plan, plan

    costs = recipe_costs(recipe, classes)
    per_weight = OPTIMIZER_TENSORS.get(recipe.optim.name.value, 2)
    recompute = recipe.pipeline.recompute
    chosen = plan(costs, recipe.pipeline.splits, recompute, per_weight)
    best = best_plan(costs, len(chosen.stages), recompute, per_weight)
    height, width = image_size(recipe)
    half = "mixed" if recipe.precision is Precision.mixed else "fp32"
    again = ", recomputed" if recompute and recipe.pipeline.splits else ""
    lines = [
        f"{recipe.name}: {recipe.model.name} · {height}x{width} · {classes} classes ·"
        f" micro-batch {recipe.micro_batch_size}, {half}{again}, {recipe.optim.name.value}",
        "stage  parameters     GMAC  activations  entering  copies   memory  starts with",
    ]
    count = len(chosen.stages)
    for stage, (cost, memory) in enumerate(zip(chosen.stages, chosen.memory)):
        start = chosen.splits[stage - 1] if stage else "the images"
        lines.append(
            f"{stage:5}  {cost.parameters / 1e6:8.2f} M {cost.multiply_adds / 1e9:8.2f}"
            f"  {cost.kept / MEGA:7.0f} MiB {cost.entering / MEGA:5.1f} MiB"
            f"  {2 * (count - 1 - stage) + 1:6}  {memory / MEGA:3.0f} MiB  {start}"
        )
    lines += verdict(chosen, best)
    return lines


def verdict(chosen: Plan, best: Plan) -> List[str]:
    """Whether it fits, and the cut that the estimate prefers where it is another."""
    from detectors.stage_plan import TILE_MEMORY, USABLE

    full = max(chosen.memory)
    share = full / TILE_MEMORY
    words = (
        "fits"
        if share <= USABLE
        else "tight: temporary data and code may not fit beside it"
        if share <= 1
        else "does not fit"
    )
    lines = [
        f"by estimate the fullest stage takes {full / MEGA:.0f} of {TILE_MEMORY / MEGA:.0f} MiB"
        f" of an IPU's tile memory ({100 * share:.0f} %): {words}"
    ]
    if best.splits != chosen.splits:
        lines.append(
            f"the estimate prefers pipeline.splits=[{','.join(best.splits)}]:"
            f" {max(best.memory) / MEGA:.0f} MiB"
        )
    return [*lines, "of weights, gradients, momenta and activations; nothing was compiled"]
