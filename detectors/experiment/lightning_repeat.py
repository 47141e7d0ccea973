"""One batch, trained on again and again: what measuring and checking have in common."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Sequence

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.experiment.processes import Processes

__all__ = ["Steps", "train_on"]


class Steps(Callback):
    """Notes how long each call of the executor took and what it lost; ends when the time is up.

    Args:
        max_seconds: from the end of the first call on, which compiles.
        interrupted: asked after each call whether to stop.
        progress: told after each call how many there were.
        processes: that end after the same call.
    """

    def __init__(
        self,
        max_seconds: float,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda calls: None,
        processes: Optional[Processes] = None,
    ) -> None:
        self.max_seconds = max_seconds
        self.interrupted = interrupted
        self.progress = progress
        self.processes = processes or Processes()
        self.seconds: List[float] = []
        """Of each call, the one that compiled first."""
        self.losses: List[Tensor] = []
        """(L,) means over the micro-batches of each call."""
        self._began = 0.0

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._began)
        self.losses.append(outputs["losses"].float().mean(dim=0))
        self.progress(len(self.seconds))
        enough = sum(self.seconds[1:]) >= self.max_seconds or self.interrupted()
        if self.processes.agree(enough, any):
            trainer.should_stop = True


def train_on(
    items: Sequence[Any],
    collate: Callable[[Sequence[Any]], Any],
    module: DetectionModule,
    strategy: PopTorchStrategy,
    steps: Steps,
    *,
    micro_batch_size: int,
    calls: int,
) -> None:
    """Train on one batch, some calls long; nothing is written, and nothing evaluated.

    Args:
        items: of one call of the executor, in the order of its micro-batches.
        collate: items -> a batch.
        module: what is trained.
        strategy: how.
        steps: what listens.
        micro_batch_size: items per micro-batch.
        calls: at most.
    """
    loader: DataLoader[Any] = DataLoader(
        items,  # type: ignore[arg-type]  # has a length and items, as DataLoader asks
        batch_size=micro_batch_size,
        sampler=list(range(len(items))) * calls,
        collate_fn=collate,
    )
    trainer = lightning.Trainer(
        accelerator="poptorch",
        devices=1,
        strategy=strategy,
        max_steps=calls,
        logger=False,
        callbacks=[steps],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, loader)
