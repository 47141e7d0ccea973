"""A training run that takes milliseconds: a linear "detector" behind Lightning's real loop."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.collate import Batch, Placement
from detectors.experiment.interrupts import Interrupts
from detectors.experiment.lightning_checkpoints import AtomicCheckpointIO, Checkpoints, saved_step
from detectors.experiment.lightning_guard import LossGuard, StopOnSignal
from detectors.experiment.lightning_metrics import MetricsCSV
from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.lightning_progress import ProgressLine
from detectors.experiment.lightning_resume import ExactResume
from detectors.experiment.lightning_trainer import quiet
from detectors.experiment.processes import Processes
from detectors.postprocess import Detections

METRIC = "AP50_voc07"


class Detector(nn.Module):
    """Finds nothing, but has a weight to train."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Detections:
        """(B, 3, H, W) -> one empty row each."""
        rows = len(images)
        none = torch.zeros(rows, 1)
        return Detections(torch.zeros(rows, 1, 4), none, none.int() - 1, none[:, 0].int())

    def for_training(self) -> nn.Module:
        """Shares the network."""
        return Training(self)


class Training(nn.Module):
    """Two terms of a loss: squares of a linear function of the boxes."""

    loss_names = ("rpn_box", "roi_class")

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.network = detector.network

    def forward(
        self, images: Tensor, boxes: Tensor, labels: Tensor, keys: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """(), (2,)"""
        losses = self.network(boxes[:, 0]).pow(2).mean(dim=0)
        return losses.sum(), losses


def collate(draws: Sequence[int]) -> Batch:
    """Pictures that are a function of their draw."""
    boxes = torch.stack(
        [torch.rand(1, 4, generator=torch.Generator().manual_seed(draw)) for draw in draws]
    )
    rows = len(draws)
    return Batch(
        torch.zeros(rows, 3, 2, 2, dtype=torch.uint8),
        boxes,
        torch.zeros(rows, 1, dtype=torch.int32),
        torch.tensor(draws, dtype=torch.int32),
        [Placement(f"{draw:06}.jpg", draw + 1, (2, 2), 1.0) for draw in draws],
        0,
    )


class Loader(DataLoader[int]):
    """Resumable, as Lightning sees it: it begins where its sampler does."""

    def state_dict(self) -> Dict[str, int]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Nothing."""


class Rest:
    """Draws from a place on; its length is that of the whole run."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __len__(self) -> int:
        return self.end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))


class Data(lightning.LightningDataModule):
    """One image per step, three to evaluate on."""

    def __init__(self, steps: int, images_per_step: int) -> None:
        super().__init__()
        self.steps = steps
        self.images_per_step = images_per_step

    def train_dataloader(self) -> Loader:
        """From where the trainer is."""
        done = 0 if self.trainer is None else self.trainer.global_step
        sampler = Rest(done * self.images_per_step, self.steps * self.images_per_step)
        return Loader(range(sampler.end), sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[int]:
        """Always the same."""
        return DataLoader(range(3), collate_fn=collate)  # type: ignore[arg-type]


class Judge:
    """Gives the score of a list for each evaluated step."""

    def __init__(self, scores: Dict[int, float]) -> None:
        self.scores = scores
        self.seen: List[Tuple[int, int]] = []
        """(step, images) of each evaluation."""
        self.images = 0

    def add(self, detections: Any, placements: Sequence[Any]) -> None:
        """Count."""
        self.images += len(placements)

    def finish(self, step: int) -> Dict[str, float]:
        """The score."""
        self.seen.append((step, self.images))
        self.images = 0
        return {METRIC: self.scores.get(step, 0.0)}


class TinyRun:
    """A run of `steps` steps into `folder`; `fit` trains it, from `last.ckpt` if `resume`."""

    def __init__(
        self,
        folder: Path,
        steps: int = 12,
        *,
        every_steps: int = 4,
        evaluate_every: int = 5,
        log_every: int = 1,
        images_per_step: int = 1,
        scores: Optional[Dict[int, float]] = None,
        interrupts: Optional[Interrupts] = None,
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
    ) -> None:
        self.folder = folder
        self.resumed = str(folder / "last.ckpt") if resume else None
        step = None
        if resume:
            step = saved_step(AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt"))
        self.judge = Judge(scores or {})
        self.module = DetectionModule(Detector(), judge=self.judge)
        self.data = Data(steps, images_per_step)
        self.checkpoints = Checkpoints(folder, every_steps, METRIC)
        self.output = io.StringIO()
        ours = [
            ProgressLine(images_per_step, 6, steps, every_seconds=0.0, file=self.output),
            LossGuard(folder),
            self.checkpoints,
        ]
        if interrupts is not None:
            alone = Processes()
            alone.interrupts = interrupts
            ours.append(StopOnSignal(alone, self.checkpoints))
        self.trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            accumulate_grad_batches=images_per_step,
            val_check_interval=evaluate_every * images_per_step,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            log_every_n_steps=log_every,
            logger=MetricsCSV(folder, resume_step=step),
            callbacks=[*ours, *callbacks, ExactResume()],
            plugins=[AtomicCheckpointIO()],
        )

    def fit(self) -> TinyRun:
        """Train."""
        with quiet():
            self.trainer.fit(self.module, self.data, ckpt_path=self.resumed)
        return self

    @property
    def weight(self) -> Tensor:
        """What was trained."""
        return self.module.model.network.weight.detach()  # type: ignore[union-attr, operator]


@pytest.fixture
def tiny_run() -> Callable[..., TinyRun]:
    """The class, for it cannot be imported from here."""
    return TinyRun


class At(Callback):
    """Calls a function before the call that follows so many steps, or inside an evaluation."""

    def __init__(self, steps: int, act: Callable[[], None], *, evaluation: bool = False) -> None:
        self.steps, self.act, self.evaluation = steps, act, evaluation

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Training."""
        if not self.evaluation and trainer.global_step == self.steps:
            self.act()

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Evaluation."""
        if self.evaluation and trainer.global_step == self.steps and batch_idx == 1:
            self.act()


@pytest.fixture
def at() -> Callable[..., Callback]:
    """The class of a callback that calls a function at a step."""
    return At
