"""What ends a run before its last step: a loss that is no number, and a signal.

n micro-batches of a call, L terms of the loss.
"""

from __future__ import annotations

import io
import logging
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, cast

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from detectors.experiment.atomic import write_whole
from detectors.experiment.interrupts import Terminated
from detectors.experiment.lightning_checkpoints import Checkpoints, steps_done
from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.processes import Processes
from detectors.experiment.together import Occasionally

__all__ = ["LossGuard", "StopOnSignal", "Stopped"]

logger = logging.getLogger(__name__)

MAX_NAMES = 4  # images that the message names


class LossGuard(Callback):
    """Ends the run at the first loss that is nan or infinite, before anything is saved after it.

    The images of that micro-batch go to `nan_batch.pt`, as the tensors that the training module was
    given; stands before `Checkpoints` in the list.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "nan_batch.pt"
        self._done = 0

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember which step this call begins with."""
        self._done = steps_done(trainer)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at every term of every micro-batch.

        Raises:
            RuntimeError: the message names term, step and images.
        """
        losses = outputs["losses"].detach()  # (n, L)
        broken = ~torch.isfinite(losses)
        if not bool(broken.any()):
            return
        row = int(broken.any(dim=1).int().argmax())
        term = int(broken[row].int().argmax())
        module = cast(DetectionModule, pl_module)
        per_step = max(len(losses) // module.updates_per_call, 1)
        found: Dict[str, Any] = {
            "step": self._done + row // per_step + 1,
            "term": f"loss_{module.loss_names[term]}",
            "losses": losses[row].cpu().clone(),
            **micro_batch(batch, row, len(losses)),
        }
        value = float(losses[row, term])
        raise RuntimeError(
            f"{found['term']} became {value} at step {found['step']};"
            f" images {some(found['names'])}; {hint(trainer)}"
            + (f"\n{self._keep(found)}" if trainer.is_global_zero else "")
        )

    def _keep(self, found: Dict[str, Any]) -> str:
        buffer = io.BytesIO()
        torch.save(found, buffer)
        try:
            write_whole(self.path, buffer.getbuffer())
        except OSError as error:  # the loss is the news
            return f"{self.path.name} could not be saved: {error}"
        return f"saved {self.path}"


def micro_batch(batch: Any, row: int, count: int) -> Dict[str, Any]:
    """The images of one of `count` micro-batches: their names and tensors, copied."""
    size = max(len(batch.placements) // count, 1)
    rows = slice(row * size, (row + 1) * size)
    return {
        "names": [placement.name for placement in batch.placements[rows]],
        "tensors": [tensor[rows].cpu().clone() for tensor in batch.tensors],
    }


def some(names: Sequence[str]) -> str:
    """The first names."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def hint(trainer: lightning.Trainer) -> str:
    """What is known of gradients and learning rate, and what to try."""
    known = trainer.callback_metrics
    words: List[str] = []
    if "optim/grad_norm" in known:
        words.append(f"grad norm {float(known['optim/grad_norm']):.1e}")
    rate: Optional[Tensor] = known.get("optim/lr")
    if rate is None:
        return ", ".join([*words, "try a smaller optim.lr or more optim.warmup_steps"])
    now = float(rate)
    words.append(f"lr {now:.3g}")
    return f"{', '.join(words)}: try optim.lr={now / 4:.2g}, or more optim.warmup_steps"


def first_of(signals: Sequence[Optional[signal.Signals]]) -> Optional[signal.Signals]:
    """The signal of the lowest rank that got one."""
    return next((number for number in signals if number is not None), None)


class Stopped(Terminated):
    """A signal came and was waited for: the state is saved, `exit_code` is the signal's."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        super().__init__(number, f"saved last.ckpt (step {step:,})".replace(",", " "))
        self.step = step
        """Updates of the weights in `last.ckpt`."""


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM: the first lets the step end, saves, and leaves `fit` by `Stopped`; the
    second leaves it at once, by `Terminated`, and `last.ckpt` is the one from before.

    Lightning has handlers of its own, which would lose the exit code (2.3 takes a KeyboardInterrupt
    for an end, 2.6 exits 1) or the step; they are out of force while it trains.

    Several processes stop after the same step: a second may pass until all know.

    Args:
        processes: of the script, open; from now on their interrupts raise `Terminated` for Ctrl-C
            too.
        checkpoints: who saves.
    """

    def __init__(self, processes: Processes, checkpoints: Checkpoints) -> None:
        self.interrupts = processes.interrupts
        self.interrupts.own = True
        self.checkpoints = checkpoints
        self._told: Occasionally[Optional[signal.Signals], Optional[signal.Signals]]
        self._told = Occasionally(processes, first_of)
        self._deferral = ExitStack()
        self._calls = 0
        self._stopping = False

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """From here on there is something to finish."""
        self.interrupts.take()
        self._calls = trainer.global_step
        self._deferral.enter_context(self.interrupts.deferred())

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save, unless this was a part of a step only; its row of numbers is not logged yet."""
        done, self._calls = trainer.global_step != self._calls, trainer.global_step
        if self._told.ask(self.interrupts.requested) is not None and done:
            self.checkpoints.save(trainer)
            self._stopping = True

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop: the step before is saved and logged."""
        if self._stopping:
            self._stop(trainer)

    def on_validation_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Likewise, where an evaluation would come next."""
        if self._stopping:
            self._stop(trainer)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop: the step before the evaluation is saved, a resumed run evaluates it again."""
        told = self._told.ask(self.interrupts.requested)
        if trainer.state.fn == "fit" and told is not None:
            self._stop(trainer)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Nothing to finish any more."""
        self._deferral.close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """As at the end."""
        self._deferral.close()

    def _stop(self, trainer: lightning.Trainer) -> None:
        number = self._told.answer
        assert number is not None
        step = self.checkpoints.save(trainer)
        logger.info("stopped by %s after step %d", number.name, step)
        raise Stopped(number, step)
