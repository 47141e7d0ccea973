"""Lightning's Trainer with a recipe's settings: one epoch of Lightning's is the whole run, and
everything that is shown or written is ours.
"""

from __future__ import annotations

import importlib.util
import logging
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from detectors.experiment.lightning_checkpoints import AtomicCheckpointIO
from detectors.experiment.lightning_resume import ExactResume
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.experiment.processes import Processes
from detectors.experiment.recipe import Recipe
from detectors.experiment.together import Occasionally

__all__ = [
    "Callback",
    "LastStep",
    "TimeLimit",
    "build_trainer",
    "early_stop",
    "extra_loggers",
    "quiet",
    "require_loggers",
    "time_is_up",
    "time_limit",
]

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


class LastStep(Callback):
    """Asks for an evaluation after the last step, whatever the interval: Lightning evaluates before
    it stops on request.

    Args:
        calls: of the training executor in the whole run.
    """

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop, if this was it."""
        if trainer.global_step >= self.calls:
            trainer.should_stop = True


class TimeLimit(Callback):
    """Ends training after the step in which the time is up, without an evaluation. Lightning's own
    counts the time of the runs before a resume too, and evaluates at the end.

    Args:
        seconds: from the first step of this process on.
        processes: that end after the same step; the first one's clock counts.
    """

    def __init__(self, seconds: float, processes: Optional[Processes] = None) -> None:
        self.seconds = seconds
        self._over: Occasionally[bool, bool]
        self._over = Occasionally(processes or Processes(), lambda over: over[0])
        self.start = 0.0
        self.is_up = False

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin to count."""
        self.start = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop, if it is up and steps are left."""
        over = self._over.ask(time.monotonic() - self.start >= self.seconds)
        if over and trainer.global_step < trainer.max_steps:
            self.is_up = True
            trainer.should_stop = True
            trainer.limit_val_batches = 0


class Patience(EarlyStopping):
    """Lightning's, which a run that was killed after it had lost patience does not get back."""

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop, if that was decided before."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def time_limit(recipe: Recipe, processes: Optional[Processes] = None) -> List[TimeLimit]:
    """One for `trainer.max_time`, or none."""
    if recipe.trainer.max_time is None:
        return []
    days, hours, minutes, seconds = map(int, recipe.trainer.max_time.split(":"))
    return [TimeLimit(((days * 24 + hours) * 60 + minutes) * 60 + seconds, processes)]


def time_is_up(trainer: lightning.Trainer) -> bool:
    """Whether a `TimeLimit` ended the run."""
    return any(isinstance(one, TimeLimit) and one.is_up for one in trainer.callbacks)  # type: ignore[attr-defined]


def build_trainer(
    recipe: Recipe,
    folder: Path,
    *,
    calls: int,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    strategy: PopTorchStrategy,
) -> lightning.Trainer:
    """A trainer for one run.

    Args:
        recipe: `trainer`, `evaluate` and `run` are used.
        folder: of the run.
        calls: of the training executor in the whole run.
        loggers: where numbers go.
        callbacks: what happens besides.
        strategy: how a step is run.
    """
    every = recipe.evaluate.every_steps // recipe.device_iterations
    rows_every = min(recipe.run.log_every_steps, max(1, recipe.trainer.max_steps // 20))
    return lightning.Trainer(
        accelerator="poptorch",
        devices=1,
        strategy=strategy,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        max_steps=calls,
        deterministic=recipe.trainer.deterministic or None,
        log_every_n_steps=max(1, rows_every // recipe.device_iterations),
        val_check_interval=every or calls,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=list(loggers),
        callbacks=[*callbacks, LastStep(calls), ExactResume()],
    )


def early_stop(recipe: Recipe) -> List[Callback]:
    """One by the metric that `best.ckpt` goes by; none where `evaluate.patience` is 0."""
    evaluate = recipe.evaluate
    if evaluate.patience == 0:
        return []
    return [
        Patience(
            monitor=f"val/{evaluate.metric}",
            mode="max",
            patience=evaluate.patience,
            check_on_train_epoch_end=False,
        )
    ]


def require_loggers(names: Sequence[str]) -> None:
    """Refuse a logger whose package is missing, before anything is written.

    Raises:
        RuntimeError: with the line that installs it.
    """
    for name in names:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise RuntimeError(
                f"run.loggers has {name}, which is not installed: pip install {PACKAGES[name][0]}"
            )


def extra_loggers(recipe: Recipe, folder: Path) -> List[Logger]:
    """TensorBoard's event file in the run folder, Weights & Biases; as `run.loggers` says."""
    made: List[Logger] = []
    for name in recipe.run.loggers:
        if name == "tensorboard":
            made.append(TensorBoardLogger(folder.parent, name="", version=folder.name))
        else:
            made.append(WandbLogger(name=f"{recipe.name}-{folder.name}", save_dir=folder))
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's remarks on this machine go to `run.log` only, if anywhere: the header says what
    was chosen and why.
    """
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
