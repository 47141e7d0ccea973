"""The learning rate as a function of the step: no state to save, so a resumed run needs none."""

from __future__ import annotations

import math
from typing import Callable

from detectors.experiment.recipe import OptimSettings, Schedule

__all__ = ["learning_rate"]


def learning_rate(
    optim: OptimSettings, images_per_step: int, max_steps: int
) -> Callable[[int], float]:
    """Linear warm-up, then what `optim.schedule` says.

    Args:
        optim: settings.
        images_per_step: with `optim.scale_lr` the rate grows in proportion to them.
        max_steps: where a cosine reaches zero.

    Returns:
        Updates done so far -> learning rate of the next one. Warming up over W steps from the
        factor f, step i has lr * (f * (W - i) + i) / W; the schedule counts from step 0.
    """
    full = optim.lr * (images_per_step / optim.base_batch if optim.scale_lr else 1.0)
    warmup = optim.warmup_steps

    def rate(step: int) -> float:
        if step < warmup:
            return full * (optim.warmup_factor * (warmup - step) + step) / warmup
        return full * scheduled(optim, step, max_steps)

    return rate


def scheduled(optim: OptimSettings, step: int, max_steps: int) -> float:
    """The factor of a step after the warm-up."""
    if optim.schedule is Schedule.step:
        passed: int = sum(step >= milestone for milestone in optim.steps)
        return float(optim.gamma**passed)
    if optim.schedule is Schedule.cosine:
        length = max(max_steps - optim.warmup_steps, 1)
        progress = min((step - optim.warmup_steps) / length, 1.0)
        return (1 + math.cos(math.pi * progress)) / 2
    return 1.0
