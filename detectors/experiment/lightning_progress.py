"""What a training run shows of itself: a line, and how fast it is.

    epoch 3/18 ▸ 4120/18000  loss 0.742 (rpn .11 .05 roi .31 .27)  lr 0.02  28.4 img/s  data 3%
    eta 1:58:03

Steps are updates of the weights.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, TextIO, cast

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from torch import Tensor

from detectors.experiment.console import StatusLine
from detectors.experiment.lightning_checkpoints import steps_done
from detectors.experiment.lightning_module import DetectionModule

__all__ = ["FetchTimer", "ProgressLine", "clock", "loss_words"]

WINDOW = 20  # calls that speed and losses are averaged over
PER_SECOND = 4  # times that the line on a terminal is drawn


class FetchTimer(Profiler):
    """Sums up what a training loop waits for its loader; everything else is not measured."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since: Optional[float] = None

    def start(self, action_name: str) -> None:
        """Lightning's name for it is the loop's, then `train_dataloader_next`."""
        if action_name.endswith("train_dataloader_next"):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Add, if that was it."""
        if action_name.endswith("train_dataloader_next") and self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def take(self) -> float:
        """Seconds since this was last asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Call(NamedTuple):
    """One batch of the loop."""

    steps: int
    """Updates of the weights in it; 0 while gradients accumulate outside the executor."""
    wait: float
    """Seconds for the loader."""
    work: float
    """Seconds for everything in the step."""
    losses: Tensor
    """(L,) means over its micro-batches."""


class ProgressLine(Callback):
    """Rewrites a line on a terminal, prints one every so often elsewhere; logs `speed/...`.

    Saving and evaluating are not part of the speed. The first call, which compiles, is left out as
    soon as there is another.

    Args:
        images_per_step: pictures per update of the weights.
        epoch_images: pictures in the training set.
        max_steps: of the run.
        every_seconds: between two lines where there is no terminal.
        file: where to, stderr if not given.
        quiet: show nothing; speeds are logged nevertheless.
    """

    def __init__(
        self,
        images_per_step: int,
        epoch_images: int,
        max_steps: int,
        *,
        every_seconds: float = 30.0,
        file: Optional[TextIO] = None,
        quiet: bool = False,
    ) -> None:
        self.images_per_step = images_per_step
        self.epoch_images = epoch_images
        self.max_steps = max_steps
        self.line = StatusLine(file)
        self.quiet = quiet
        self._interval = 1 / PER_SECOND if self.line.shown else every_seconds
        self._shown_at = -math.inf
        self._fetching = FetchTimer()
        self._calls: Deque[Call] = deque(maxlen=WINDOW)
        self._first = True
        self._began = 0.0
        self._steps_before = 0

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Listen to the loader, unless the user profiles."""
        if isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
            trainer.profiler = self._fetching  # type: ignore[attr-defined]

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Say that the first step takes longer than the others."""
        self._steps_before = steps_done(trainer)
        self._show(f"step {self._steps_before + 1}: compiling", now=True)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Work begins."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Work is done."""
        work = time.perf_counter() - self._began
        step = steps_done(trainer)
        if self._first and len(self._calls) == 1 and self._calls[0].steps:
            self._calls.clear()
            self._first = False
        done, self._steps_before = step - self._steps_before, step
        losses = outputs["losses"].detach().float().mean(dim=0).cpu()
        self._calls.append(Call(done, self._fetching.take(), work, losses))
        speed = self.speed()
        pl_module.log_dict(speed, batch_size=1)
        if self._due():
            names = cast(DetectionModule, pl_module).loss_names
            self._show(self.text(trainer, names, speed), now=True)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """How far an evaluation is."""
        total = trainer.num_val_batches[dataloader_idx] if trainer.num_val_batches else 0
        self._show(f"step {self._steps_before}: evaluating {batch_idx + 1}/{total}")

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """A line that stays: the main scores, each with its flavour."""
        scores = [
            f"{key[len('val/') :]} {100 * float(value):.1f} %"
            for key, value in trainer.callback_metrics.items()
            if key.startswith("val/AP50_") or key == "val/AP_coco"
        ]
        if scores and not self.quiet and not trainer.sanity_checking:
            self.line.print(f"step {self._steps_before}: {'  '.join(scores)}")

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Take the line away."""
        self.line.close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """As at the end."""
        self.line.close()

    def speed(self) -> Dict[str, float]:
        """`speed/...` over the last calls.

        images_per_second, the share of the time that is spent waiting for the loader, and
        milliseconds per step with that.
        """
        wait = sum(call.wait for call in self._calls)
        total = wait + sum(call.work for call in self._calls)
        steps = sum(call.steps for call in self._calls)
        return {
            "speed/images_per_second": steps * self.images_per_step / total,
            "speed/data_wait": wait / total,
            "speed/step_ms": 1000 * total / steps if steps else math.nan,
        }

    def text(
        self, trainer: lightning.Trainer, names: Sequence[str], speed: Dict[str, float]
    ) -> str:
        """The line."""
        step = self._steps_before
        epochs = max(1, math.ceil(self.max_steps * self.images_per_step / self.epoch_images))
        epoch = min(epochs, step * self.images_per_step // self.epoch_images + 1)
        losses = torch.stack([call.losses for call in self._calls]).mean(dim=0).tolist()
        words = [
            f"epoch {epoch}/{epochs} ▸ {step}/{self.max_steps}",
            f"loss {sum(losses):.3f} ({loss_words(names, losses)})",
        ]
        rate = trainer.callback_metrics.get("optim/lr")
        if rate is not None:
            words.append(f"lr {float(rate):.3g}")
        words.append(f"{speed['speed/images_per_second']:.3g} img/s")
        words.append(f"data {speed['speed/data_wait']:.0%}")
        if math.isfinite(speed["speed/step_ms"]):
            words.append(f"eta {clock((self.max_steps - step) * speed['speed/step_ms'] / 1000)}")
        return "  ".join(words)

    def _due(self) -> bool:
        return not self.quiet and time.monotonic() - self._shown_at >= self._interval

    def _show(self, text: str, *, now: bool = False) -> None:
        if self.quiet or not (now or self._due()):
            return
        self._shown_at = time.monotonic()
        if self.line.shown:
            self.line.show(text)
        else:
            self.line.print(text)


def loss_words(names: Sequence[str], values: Sequence[float]) -> str:
    """Terms of the loss, those of a part behind its name.

    >>> loss_words(["rpn_objectness", "rpn_box", "roi_class"], [0.113, 0.05, 1.31])
    'rpn .11 .05 roi 1.31'
    """
    words: List[str] = []
    part = ""
    for name, value in zip(names, values):
        if name.partition("_")[0] != part:
            part = name.partition("_")[0]
            words.append(part)
        text = f"{value:.2f}"
        words.append(text[1:] if text.startswith("0.") else text)
    return " ".join(words)


def clock(seconds: float) -> str:
    """Hours, minutes, seconds.

    >>> clock(7083), clock(59.6)
    ('1:58:03', '1:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
