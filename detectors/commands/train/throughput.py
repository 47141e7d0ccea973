"""`task=throughput`: how fast training is on one real batch. It ends, and writes nothing."""

from __future__ import annotations

from typing import List

from data.collate import Placed
from detectors.commands.train.memory import peak_memory
from detectors.commands.train.pictures import detection_data
from detectors.commands.train.plan import Plan
from detectors.commands.train.repeat import repeat_batch
from detectors.experiment.atomic import disk_size
from detectors.experiment.console import table
from detectors.experiment.timing import percentile

__all__ = ["first_call", "run_throughput", "throughput_lines"]

WARM_UP = 2  # calls that do not count: the first compiles
MAX_CALLS = 30
MAX_SECONDS = 120.0


def run_throughput(plan: Plan) -> int:
    """Repeat a batch through the training executor and print what was measured."""
    recipe, interrupts = plan.recipe, plan.ranks.processes.interrupts
    items = first_call(plan)
    calls = max(WARM_UP + 1, min(MAX_CALLS + WARM_UP, plan.calls))
    steps = repeat_batch(plan, items, interrupts, calls=calls, seconds=MAX_SECONDS, unit="call")
    for line in throughput_lines(steps.seconds, len(items), recipe.device_iterations):
        print(line)
    print(f"peak memory {disk_size(peak_memory(plan.device))}, one batch of {len(items)} repeated")
    return interrupts.exit_code


def first_call(plan: Plan) -> List[Placed]:
    """The pictures of the run's first call of the executor, augmented as they would be."""
    data = detection_data(plan.recipe, plan.datasets, plan.preprocess.pad)
    count = plan.recipe.images_per_step * plan.recipe.device_iterations
    return [data.training[data.order.draw(place)] for place in range(count)]


def throughput_lines(seconds: List[float], images: int, device_iterations: int) -> List[str]:
    """Samples per second, and percentiles of the time per step.

    Args:
        seconds: of each call, those that warm up first.
        images: per call.
        device_iterations: steps per call.
    """
    timed = seconds[WARM_UP:] or seconds[-1:]
    steps = [1000 * call / device_iterations for call in timed]
    rate = images * len(timed) / sum(timed)
    row = [f"{percentile(steps, q):.1f}" for q in (50, 90, 99)]
    lines = table(["", "samples/s", "p50", "p90", "p99"], [["ms per step", f"{rate:.3g}", *row]])
    return [*lines.splitlines(), f"{len(timed)} calls timed, after {seconds[0]:.1f} s of the first"]
