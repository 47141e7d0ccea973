"""A run that goes on exactly where it was left: Lightning's counters, which its loops leave in the
middle of a step or an evaluation, put between two steps.

For a run that is one epoch of Lightning's (`max_epochs=-1`, `check_val_every_n_epoch=None`) with a
loader that itself begins at the trainer's `global_step`, such as `data.datamodule.DetectionData`
with `steps`.
"""

from __future__ import annotations

from typing import Any, Dict

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback

__all__ = ["ExactResume"]


class ExactResume(Callback):
    """Resumes at the step after `global_step`, whichever hook wrote the checkpoint; stands last in
    the list, so that the others have seen the start when an evaluation comes first.

    Lightning 2.3 and 2.6 differ in how they go on from the middle of an epoch: after a checkpoint
    of `on_train_batch_end` the first counts one batch twice, which moves every later evaluation and
    accumulation; the second leaves out the evaluation that was due. Here that evaluation is run
    unless it was done before the checkpoint was written, and then the next step.
    """

    def __init__(self) -> None:
        self.evaluated = -1
        """`global_step` of the latest evaluation."""
        self.resumed = False

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint has to know."""
        return {"evaluated": self.evaluated}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """The reverse."""
        self.evaluated = state_dict["evaluated"]

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: Dict[str, Any],
    ) -> None:
        """Set the counters that Lightning is about to read."""
        if trainer.state.fn == "fit":
            settle(
                checkpoint["loops"]["fit_loop"],
                checkpoint["global_step"],
                trainer.accumulate_grad_batches,
            )
            self.resumed = True

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Run the evaluation that is due, then train as from the beginning of an epoch: the loader
        begins where the run goes on, so there is nothing to skip.
        """
        if not self.resumed:
            return
        self.resumed = False
        loop = trainer.fit_loop.epoch_loop
        loop.restarting = False
        if self.evaluated != trainer.global_step and due(trainer):
            trainer.validating = True
            loop.val_loop.run()
            trainer.training = True

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Remember when."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.evaluated = trainer.global_step


def due(trainer: lightning.Trainer) -> bool:
    """Whether an evaluation belongs after the batches that are trained."""
    batches = trainer.global_step * trainer.accumulate_grad_batches
    every = trainer.val_check_batch
    return bool(trainer.enable_validation and every and batches % every == 0)


def settle(loops: Dict[str, Any], global_step: int, accumulate: int) -> None:
    """Write the counters of a first epoch after `global_step` whole steps into saved ones.

    A step that was half accumulated when the checkpoint was written is trained again from its
    first micro-batch.

    Args:
        loops: `checkpoint["loops"]["fit_loop"]`, changed in place.
        global_step: updates by Lightning's count.
        accumulate: batches per update.
    """
    batches = global_step * accumulate
    set_counters(loops["epoch_progress"], ready=1, started=1, processed=0, completed=0)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False
    set_counters(
        loops["epoch_loop.batch_progress"],
        ready=batches,
        started=batches,
        processed=batches,
        completed=batches,
    )
    loops["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
    set_counters(
        loops["epoch_loop.val_loop.batch_progress"], ready=0, started=0, processed=0, completed=0
    )
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = global_step


def set_counters(progress: Dict[str, Any], **counters: int) -> None:
    """The same in both of Lightning's counts, of the epoch and of all."""
    progress["total"] = dict(counters)
    progress["current"] = dict(counters)
