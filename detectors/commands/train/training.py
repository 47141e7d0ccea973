"""The parts of a training run that a plan fixes: Lightning's module, strategy and callbacks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from detectors.commands.evaluate.judge import Judge
from detectors.commands.evaluate.suppression import evaluation_postprocess
from detectors.commands.train.folder import record_of
from detectors.commands.train.plan import Plan
from detectors.experiment.learning_rate import learning_rate
from detectors.experiment.lightning_checkpoints import Checkpoints
from detectors.experiment.lightning_ema import WeightAverage
from detectors.experiment.lightning_guard import LossGuard, StopOnSignal
from detectors.experiment.lightning_metrics import MetricsCSV
from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.lightning_progress import ProgressLine
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.experiment.lightning_trainer import early_stop, time_limit
from detectors.experiment.optimizer import build_optimizer
from detectors.experiment.recipe import Recipe, inference_options, poptorch_options
from detectors.splits import apply_splits, named_modules_of
from poplar_ops.runtime import IS_HOST, poptorch

if TYPE_CHECKING:
    from detectors.experiment.lightning_trainer import Callback

__all__ = ["callbacks_of", "checkpoints_of", "metrics_of", "module_of", "strategy_of"]


def module_of(plan: Plan, judge: Optional[Judge]) -> DetectionModule:
    """Model, optimizer, learning rate and judge; the model ends with the judge's NMS."""
    recipe = plan.recipe
    if judge is not None:
        plan.model.configure(postprocess=evaluation_postprocess(plan.model, judge.nms))
    return DetectionModule(
        plan.model,
        build_optimizer=partial(build_optimizer, optim=recipe.optim, poptorch=True),
        learning_rate=learning_rate(recipe.optim, recipe.images_per_step, recipe.trainer.max_steps),
        judge=judge,
        record=record_of(plan),
    )


def strategy_of(plan: Plan) -> PopTorchStrategy:
    """Lightning's steps as calls of PopTorch's executors.

    Raises:
        ValueError: a name in `pipeline.splits` or `pipeline.checkpoints` is no module.
    """
    recipe = plan.recipe
    poptorch.removeBlocks(apply_splits(plan.model.for_training(), recipe.pipeline.splits))
    named_modules_of(plan.model.for_training(), recipe.pipeline.checkpoints, "checkpoints")
    options, processes = inference_options(recipe), plan.ranks.processes
    # One process of a host recomputes nothing: it has one micro-batch at a time, and memory.
    staged = recipe.pipeline.splits and (plan.ranks.pipelined or not IS_HOST)
    if processes.size > 1:  # each evaluates its share with the whole model
        options.Distributed.configureProcessId(processes.rank, processes.size)
    return PopTorchStrategy(
        poptorch_options(recipe),
        options,
        splits=recipe.pipeline.splits,
        device=plan.device,
        precision=recipe.precision.value,
        checkpoints=recipe.pipeline.checkpoints if staged else (),
        rank=processes.rank,
        shared=plan.ranks.pipelined,
    )


def checkpoints_of(plan: Plan, folder: Path, judge: Optional[Judge]) -> Checkpoints:
    """`last.ckpt` and `best.ckpt`. A run that is killed loses a tenth of itself at most."""
    every = min(plan.recipe.checkpoint.every_steps, max(3, plan.recipe.trainer.max_steps // 10))
    return Checkpoints(folder, every, None if judge is None else judge.metric)


def metrics_of(plan: Plan, folder: Path) -> Optional[MetricsCSV]:
    """`metrics.csv`, from where the run goes on; None in a process that is not the first."""
    if not plan.ranks.processes.first:
        return None
    return MetricsCSV(folder, resume_step=None if plan.earlier is None else plan.earlier.step)


def weight_average(recipe: Recipe) -> List[Callback]:
    """One for `optim.ema`, or none."""
    optim = recipe.optim
    return [WeightAverage(optim.ema, optim.ema_every)] if optim.ema else []


def callbacks_of(plan: Plan, folder: Path, checkpoints: Checkpoints) -> List[Callback]:
    """In their order: what looks at a step comes before what saves it, and stopping comes last."""
    recipe, processes = plan.recipe, plan.ranks.processes
    per_step, steps = recipe.images_per_step, recipe.trainer.max_steps
    return [
        LossGuard(folder),
        *weight_average(recipe),
        ProgressLine(per_step, len(plan.datasets.train), steps, quiet=not processes.first),
        *early_stop(recipe),
        *time_limit(recipe, processes),
        checkpoints,
        StopOnSignal(processes, checkpoints),
    ]
