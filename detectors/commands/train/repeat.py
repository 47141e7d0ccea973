"""One batch trained on again and again, with a progress line: the frame of two tasks."""

from __future__ import annotations

from typing import Sequence

from data.collate import Placed
from data.placed_images import collator
from detectors.commands.train.memory import explained_memory
from detectors.commands.train.plan import Plan
from detectors.commands.train.training import module_of, strategy_of
from detectors.experiment.console import Progress
from detectors.experiment.interrupts import Interrupts
from detectors.experiment.lightning_repeat import Steps, train_on
from detectors.experiment.lightning_trainer import quiet

__all__ = ["repeat_batch"]


def repeat_batch(
    plan: Plan,
    items: Sequence[Placed],
    interrupts: Interrupts,
    *,
    calls: int,
    seconds: float,
    unit: str,
) -> Steps:
    """Train on one batch until `calls` are done, the time is up or the user interrupts.

    Args:
        items: of one call of the executor, in the order of its micro-batches.
        seconds: at most, from the end of the first call on.
        unit: what the progress line calls a call.

    Returns:
        the seconds and losses of each call.
    """
    recipe = plan.recipe
    first = plan.ranks.processes.first
    with Progress(calls, unit=unit, quiet=not first) as progress:
        steps = Steps(
            seconds,
            interrupted=lambda: interrupts.requested is not None,
            progress=lambda done: progress.show(done, calls),
            processes=plan.ranks.processes,
        )
        with quiet(), explained_memory(recipe, plan.device, plan.model), interrupts.deferred():
            train_on(
                items,
                collator(recipe.data.max_boxes),
                module_of(plan, None),
                strategy_of(plan),
                steps,
                micro_batch_size=recipe.micro_batch_size,
                calls=calls,
            )
    return steps
