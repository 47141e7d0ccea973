"""`last.ckpt` and `best.ckpt` of a run folder.

Steps are updates of the weights; Lightning's `global_step` counts calls of the executor.
"""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import Any, Dict, Optional, Union, cast

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import CheckpointIO

from detectors.experiment.atomic import DiskFullError, copy_whole, write_whole
from detectors.experiment.lightning_module import DetectionModule
from detectors.weights.tensor_file import read_tensor_file

__all__ = ["AtomicCheckpointIO", "Checkpoints", "saved_step", "steps_done"]

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Writes all of a checkpoint or nothing, reads tensors and plain types only; for the Trainer's
    `plugins`.
    """

    def save_checkpoint(
        self,
        checkpoint: Dict[str, Any],
        path: Union[str, Path],
        storage_options: Optional[Any] = None,
    ) -> None:
        """Write `checkpoint` to `path`, whose folder is made.

        Raises:
            DiskFullError: what `path` was before is intact; the message says of which step.
        """
        if storage_options is not None:
            raise TypeError(f"checkpoints are local files, got storage_options={storage_options!r}")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_whole(path, buffer.getbuffer())
        except DiskFullError as error:
            raise DiskFullError(f"{error}{intact(path)}") from error

    def load_checkpoint(
        self,
        path: Union[str, Path],
        map_location: Optional[Any] = None,
        weights_only: Optional[bool] = None,
    ) -> Dict[str, Any]:
        """Read a checkpoint, onto the CPU; no code in it is run.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: what is there is no whole checkpoint of tensors and plain types.
        """
        loaded = read_tensor_file(Path(path)).content
        if "state_dict" not in loaded:
            raise ValueError(f"{path} is no checkpoint of a run: it has no state_dict")
        return loaded

    def remove_checkpoint(self, path: Union[str, Path]) -> None:
        """Delete a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def steps_done(trainer: lightning.Trainer) -> int:
    """Updates of the weights so far."""
    return cast(DetectionModule, trainer.lightning_module).step


def saved_step(checkpoint: Dict[str, Any]) -> int:
    """Updates of the weights that a loaded checkpoint has seen."""
    return int(checkpoint.get("step", checkpoint.get("global_step", 0)))


def intact(path: Path) -> str:
    """What a failed write has left."""
    if not path.exists():
        return ""
    try:
        step = saved_step(read_tensor_file(path).content)
    except ValueError:  # not of ours; this is about the disk
        return f"; previous {path.name} is untouched"
    words = f"{step:,}".replace(",", " ")
    return f"; previous {path.name} (step {words}) is intact"


class Checkpoints(Callback):
    """Keeps `last.ckpt` and `best.ckpt` of a run folder; stands behind `LossGuard` in the list.

    `last.ckpt` is written every so many steps, around each evaluation, and at the end; `best.ckpt`
    is the `last.ckpt` of the evaluation with the highest `val/<metric>`, the earlier one of equals.

    Args:
        folder: of the run.
        every_steps: steps between two `last.ckpt`; 0 = at the end only.
        metric: what best is the best by, higher being better; None = no `best.ckpt`.
    """

    def __init__(self, folder: Path, every_steps: int, metric: Optional[str] = None) -> None:
        self.last = Path(folder) / "last.ckpt"
        self.best = Path(folder) / "best.ckpt"
        self.every_steps = every_steps
        self.metric = metric
        self.best_score: Optional[float] = None
        self.best_step: Optional[int] = None
        self.step_of_last: Optional[int] = None
        self._writes = True

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Of several processes the first writes; all take part in collecting what."""
        self._writes = trainer.is_global_zero

    def state_dict(self) -> Dict[str, Any]:
        """What a resumed run needs to know."""
        return {"best_score": self.best_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """The reverse. A run that was killed after it had written the best `last.ckpt` has not
        named it `best.ckpt`; that is done now.
        """
        self.best_score = state_dict["best_score"]
        self.best_step = state_dict["best_step"]
        if not self._writes or not self.last.exists():
            return
        written = saved_step(read_tensor_file(self.last).content)
        if written == self.best_step:
            copy_whole(self.last, self.best)

    def save(self, trainer: lightning.Trainer) -> int:
        """Write `last.ckpt`, unless it is of this step already; returns the step."""
        step = steps_done(trainer)
        if self.step_of_last != step:
            self._write(trainer)
        return step

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: Dict[str, Any],
    ) -> None:
        """A resumed run starts from a file: that step need not be written again."""
        self.step_of_last = saved_step(checkpoint)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write `last.ckpt` where a multiple of `every_steps` was reached or passed."""
        every, before = self.every_steps, self.step_of_last or 0
        if every and steps_done(trainer) // every > before // every:
            self.save(trainer)

    def on_validation_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """An evaluation may take long or fail: what was trained is safe before it."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.save(trainer)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write `last.ckpt` as an evaluated one; name it `best.ckpt` too if it is."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        step = steps_done(trainer)
        score = None if self.metric is None else self._score(trainer, self.metric)
        best = score is not None and (self.best_score is None or score > self.best_score)
        if best:
            self.best_score, self.best_step = score, step
        self._write(trainer)
        if best and self._writes:
            copy_whole(self.last, self.best)
            logger.info("saved %s: val/%s is %.4f", self.best.name, self.metric, score)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the last `last.ckpt`."""
        self.save(trainer)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: Dict[str, Any],
    ) -> None:
        """Say `step`."""
        checkpoint["step"] = steps_done(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self.last)
        self.step_of_last = steps_done(trainer)
        logger.info("saved %s of step %d", self.last.name, self.step_of_last)

    def _score(self, trainer: lightning.Trainer, metric: str) -> Optional[float]:
        """The metric's value; None where nothing could be judged (NaN)."""
        known = {key: value for key, value in trainer.callback_metrics.items() if "val/" in key}
        if f"val/{metric}" not in known:
            names = ", ".join(key[len("val/") :] for key in known if "class/" not in key)
            raise ValueError(
                f"evaluate.metric={metric} is not among the evaluation's scores: {names or 'none'}"
            )
        score = float(known[f"val/{metric}"])
        return None if math.isnan(score) else score
