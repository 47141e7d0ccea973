"""`task=check`: is the data sound, does the model learn, how long will it take. Writes nothing.

Published weights that cannot be had are a finding; what needs none is done from random ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence, Tuple

from data.collate import Placed
from data.defects import DefectReport
from detectors.commands.train.datasets import Datasets
from detectors.commands.train.memory import peak_memory
from detectors.commands.train.pictures import detection_data
from detectors.commands.train.plan import Plan
from detectors.commands.train.repeat import repeat_batch
from detectors.experiment.atomic import disk_size
from detectors.experiment.lightning_progress import clock
from detectors.experiment.processes import Processes
from detectors.experiment.ranks import Ranks
from detectors.experiment.recipe import Recipe, Schedule
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["check_data", "run_check", "verdict"]

STEPS = 50
FEWEST = 10  # steps that say something
SECONDS = 60.0
LEARNS = 0.7  # of the first loss: what the last ones must be below
TRIES = 100  # draws in search of a picture with a box


def check_data(datasets: Datasets) -> None:
    """Print every defect of the data; refuse what cannot be trained on."""
    for line in defect_lines(datasets.report):
        print(line)
    datasets.require_sound(named=True)
    print("data: sound" if not datasets.report.defects else "data: can be trained on")


def defect_lines(report: DefectReport) -> List[str]:
    """Each kind with its count, and each of its files."""
    lines: List[str] = []
    for kind, count in report.counts().items():
        found = report.of_kind(kind)
        assert len(found) == count
        lines.append(report.line(kind).partition(":")[0] + ":")
        lines += [f"  {defect}" for defect in found]
    return lines


def run_check(plan: Plan) -> int:
    """Train on one micro-batch until it is learned; print the verdict and estimates. Of several
    processes the first does it, alone. Missing weights fail the check whatever is learned.
    """
    if IS_HOST and plan.ranks.processes.size > 1:
        poptorch.host.configure(schedule="sequential")
    return plan.ranks.processes.from_first(lambda: learn(plan))


def learn(plan: Plan) -> int:
    missing = plan.missing
    if missing is not None:
        print("\n".join(missing.lines()))
    interrupts = plan.ranks.processes.interrupts
    small_plan = replace(plan, recipe=small(plan.recipe), ranks=Ranks(Processes()))
    items = with_boxes(small_plan)
    steps = repeat_batch(small_plan, items, interrupts, calls=STEPS, seconds=SECONDS, unit="step")
    losses = [float(loss.sum()) for loss in steps.losses]
    learns, line = verdict(losses, random=missing is not None)
    print(line)
    print(estimate(plan.recipe, min(steps.seconds[1:] or steps.seconds) / len(items)))
    print(f"peak memory {disk_size(peak_memory(plan.device))} with a micro-batch of {len(items)}")
    if missing is not None:
        print(f"not ready: {missing.name} is missing, see above")
    return interrupts.exit_code or int(missing is not None or not learns)


def small(recipe: Recipe) -> Recipe:
    """The recipe with steps of one micro-batch, in one stage, at a learning rate for it."""
    batch = recipe.micro_batch_size
    rate = recipe.optim.lr * batch / recipe.optim.base_batch
    optim = replace(
        recipe.optim, lr=rate, schedule=Schedule.constant, warmup_steps=FEWEST, scale_lr=False
    )
    return replace(
        recipe,
        gradient_accumulation=1,
        replication_factor=1,
        device_iterations=1,
        pipeline=replace(recipe.pipeline, splits=[]),
        optim=optim,
    )


def with_boxes(plan: Plan) -> List[Placed]:
    """The first micro-batch of pictures that show something."""
    data = detection_data(plan.recipe, plan.datasets, plan.preprocess.pad)
    found: List[Placed] = []
    for place in range(TRIES):
        item = data.training[data.order.draw(place)]
        if bool((item.labels >= 0).any()):
            found.append(item)
        if len(found) == plan.recipe.micro_batch_size:
            return found
    raise RuntimeError(f"none of the first {TRIES} pictures drawn for training has a box")


def verdict(losses: Sequence[float], *, random: bool = False) -> Tuple[bool, str]:
    """Whether a batch can be learned, and `overfit: loss 2.31 -> 0.08 in 50 steps: can learn`.

    Too few steps say nothing, and that is no failure. Neither do steps from `random` weights in
    place of a recipe's own that learn nothing: it is its own that its learning rate is meant for.
    """
    last = sum(losses[-3:]) / len(losses[-3:])
    start = " from random weights" if random else ""
    text = f"overfit one batch{start}: loss {losses[0]:.2f} -> {last:.2f} in {len(losses)} steps"
    if len(losses) < FEWEST:
        return True, f"{text}: {SECONDS:.0f} s are up, too early to tell"
    learns = last < LEARNS * losses[0]
    if random and not learns:
        return True, f"{text}: not learned, which says nothing of a start from the recipe's weights"
    return learns, f"{text}: {'can learn' if learns else 'does not learn: try another optim.lr'}"


def estimate(recipe: Recipe, seconds_per_image: float) -> str:
    """How long the run will take at this speed, its evaluations left out."""
    seconds = seconds_per_image * recipe.images_per_step * recipe.trainer.max_steps
    days, rest = divmod(seconds, 86400)
    length = f"{days:.0f} days {clock(rest)}" if days else clock(rest)
    return (
        f"estimate: {length} for {recipe.trainer.max_steps} steps at {1 / seconds_per_image:.3g}"
        " img/s, evaluations left out"
    )
