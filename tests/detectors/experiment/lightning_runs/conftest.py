"""Runs of a detector of two convolutions under Lightning's real loop, with and without PopTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from data.collate import Batch, Placed, Placement, collate
from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.lightning_resume import ExactResume
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.models.faster_rcnn.config import CONFIGS
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from poplar_ops.runtime import poptorch

SIZE = 32  # pixels
MICRO_BATCH, ACCUMULATION = 2, 4
IMAGES_PER_STEP = MICRO_BATCH * ACCUMULATION


class Found(NamedTuple):
    """Detections, batch first, as detectors return them."""

    boxes: Tensor
    scores: Tensor


class TinyTraining(nn.Module):
    """Two losses: the first box's left edge, and the key."""

    loss_names = ("edge", "key")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Tensor, boxes: Tensor, labels: Tensor, keys: Tensor
    ) -> Tuple[Tensor, Tensor]:
        found = self.network(images.float() / 255)  # (B, 2)
        target = torch.stack([boxes[:, 0, 0] / SIZE, keys.float() / 100], dim=1)
        losses = (found - target).square().mean(dim=0)
        return poptorch.identity_loss(losses, reduction="sum"), losses


class Tiny(nn.Module):
    """With a batch norm, whose statistics are state that no optimizer has."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 2, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Found:
        found = self.network(images.float() / 255)
        return Found(found[:, :, None].expand(-1, -1, 4).contiguous(), found)

    def for_training(self) -> TinyTraining:
        return TinyTraining(self.network).train()


class Pictures(Dataset[Placed]):
    """Picture i is noise of its number."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: int) -> Placed:
        generator = torch.Generator().manual_seed(draw)
        image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        box = torch.tensor([[float(draw % 7), 0.0, SIZE, SIZE]])
        placement = Placement(f"picture {draw}", draw, (SIZE, SIZE), 1.0)
        return Placed(image, box, torch.zeros(1, dtype=torch.int64), draw, placement)


class FromStep:
    """The draws of a run from a step on; its length is the whole run's."""

    def __init__(self, steps: int, start: int) -> None:
        self.start, self.stop = start * IMAGES_PER_STEP, steps * IMAGES_PER_STEP

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop


def joined(items: Sequence[Placed]) -> Batch:
    return collate(items, max_boxes=2)


class TinyData(lightning.LightningDataModule):
    """Pictures for so many updates; seven to validate on, by three."""

    def __init__(self, steps: int, updates_per_call: int = 1) -> None:
        super().__init__()
        self.steps = steps
        self.updates_per_call = updates_per_call

    def train_dataloader(self) -> DataLoader[Placed]:
        done = 0 if self.trainer is None else self.trainer.global_step
        return DataLoader(
            Pictures(self.steps * IMAGES_PER_STEP),
            batch_size=MICRO_BATCH,
            sampler=FromStep(self.steps, done * self.updates_per_call),
            collate_fn=joined,
        )

    def val_dataloader(self) -> DataLoader[Placed]:
        return DataLoader(Pictures(7), batch_size=3, collate_fn=joined)


class MeanJudge:
    """Says the mean of all scores it was given."""

    def __init__(self) -> None:
        self.scores: List[Tensor] = []
        self.pictures: List[str] = []
        self.said: List[Tuple[int, List[str], float]] = []
        """(step, pictures, mean score) of each validation."""

    def add(self, detections: Any, placements: Sequence[Placement]) -> None:
        assert len(detections.boxes) == len(detections.scores) == len(placements)
        self.scores.append(detections.scores)
        self.pictures += [placement.name for placement in placements]

    def finish(self, step: int) -> Dict[str, float]:
        mean = float(torch.cat(self.scores).mean())
        self.said.append((step, self.pictures, mean))
        self.scores, self.pictures = [], []
        return {"mean": mean}


class KilledError(Exception):
    """Ends a run in the middle."""


class Watch(Callback):
    """Notes every step, saves in the hook that was asked for, and stops after a step."""

    def __init__(
        self, kill_after: Optional[int], save: Optional[Tuple[int, str, Path]], accumulate: int
    ) -> None:
        self.kill_after = kill_after
        self.save = save
        self.accumulate = accumulate
        self.steps: List[Tuple[int, float, float]] = []
        self.rows: List[List[List[float]]] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rows.append(outputs["losses"].tolist())
        if (batch_idx + 1) % self.accumulate:
            return
        values = trainer.callback_metrics
        self.steps.append((pl_module.step, float(values["train/loss"]), float(values["optim/lr"])))
        self.save_in("on_train_batch_end", trainer)
        if trainer.global_step == self.kill_after:
            raise KilledError

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.save_in("on_validation_end", trainer)

    def save_in(self, hook: str, trainer: lightning.Trainer) -> None:
        if self.save is not None and self.save[:2] == (trainer.global_step, hook):
            trainer.save_checkpoint(self.save[2], weights_only=False)


@dataclass
class Run:
    """What a run left."""

    model: nn.Module
    module: DetectionModule
    steps: List[Tuple[int, float, float]]
    """(step, loss, learning rate)"""
    validations: List[Tuple[int, List[str], float]]
    trainer: lightning.Trainer
    rows: List[List[List[float]]]
    """The losses that each batch returned, (n, L)."""

    @property
    def weights(self) -> Dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def build_tiny() -> Tiny:
    """Seeded, in evaluation mode."""
    torch.manual_seed(0)
    return Tiny().eval()


def options(updates_per_call: int = 1) -> poptorch.Options:
    """Of a training executor."""
    made = poptorch.Options()
    made.Training.gradientAccumulation(ACCUMULATION)
    made.deviceIterations(updates_per_call)
    return made


def train(
    kind: str,
    folder: Path,
    steps: int = 10,
    *,
    validate_every: int = 4,
    updates_per_call: int = 1,
    kill_after: Optional[int] = None,
    save: Optional[Tuple[int, str, Path]] = None,
    resume: Optional[Path] = None,
    model: Optional[nn.Module] = None,
    splits: Sequence[str] = (),
    precision: str = "fp32",
    lr: float = 0.1,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train on "torch" alone or on "poptorch"."""
    on_torch = kind == "torch"
    optim: Any = torch.optim if on_torch else poptorch.optim
    model = model or build_tiny()
    judge = MeanJudge()
    module = DetectionModule(
        model,
        build_optimizer=lambda one: optim.SGD(
            one.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4
        ),
        learning_rate=lambda step: lr / (1 + step),  # another one at every step
        judge=judge,
    )
    accumulate = ACCUMULATION if on_torch else 1
    machine: Dict[str, Any] = {"accelerator": "cpu", "accumulate_grad_batches": accumulate}
    if not on_torch:
        inference = poptorch.Options()
        inference.setExecutionStrategy(poptorch.ShardedExecution())
        strategy = PopTorchStrategy(
            options(updates_per_call), inference, splits, precision=precision
        )
        machine = {"accelerator": "poptorch", "strategy": strategy}
    watch = Watch(kill_after, save, accumulate)
    trainer = lightning.Trainer(
        max_epochs=-1,
        max_steps=steps // updates_per_call,
        check_val_every_n_epoch=None,
        val_check_interval=validate_every * accumulate // updates_per_call,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        default_root_dir=folder,
        callbacks=[*callbacks, ExactResume(), watch],
        **machine,
    )
    data = TinyData(steps, updates_per_call)
    if kill_after is None:
        trainer.fit(module, data, ckpt_path=resume)
    else:
        with pytest.raises(KilledError):
            trainer.fit(module, data, ckpt_path=resume)
    return Run(model, module, watch.steps, judge.said, trainer, watch.rows)


def build_small() -> FasterRCNN:
    """Faster R-CNN R18-C4 with few regions, seeded."""
    config = CONFIGS["seed"]
    torch.manual_seed(0)
    return build_faster_rcnn(
        replace(
            config,
            depth=18,
            norm="frozen",  # statistics over eight cells would make much of the last digit
            num_classes=3,
            frozen_stages=0,
            image_size=(32, 32),
            rpn=replace(config.rpn, num_samples=4, pre_nms=(9, 9), post_nms=(8, 4)),
            box_head=replace(config.box_head, num_samples=4, pool_size=2),
        )
    )


@pytest.fixture
def small_faster_rcnn() -> Callable[[], FasterRCNN]:
    """() -> Faster R-CNN R18-C4 for pictures of 32 pixels, seeded."""
    return build_small


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """("torch" or "poptorch", steps=10, **settings of `train`) -> Run."""

    def start(kind: str, steps: int = 10, **settings: Any) -> Run:
        return train(kind, tmp_path, steps, **settings)

    return start


@pytest.fixture
def tiny() -> Callable[[], Tiny]:
    """() -> a detector of two convolutions, seeded, in evaluation mode."""
    return build_tiny


@pytest.fixture
def tiny_data() -> Callable[..., TinyData]:
    """(steps, updates_per_call=1) -> its pictures."""
    return TinyData


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., lightning.Trainer]:
    """(**arguments) -> a quiet Trainer of one step."""

    def build(**arguments: Any) -> lightning.Trainer:
        quiet: Dict[str, Any] = {
            "max_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            "default_root_dir": tmp_path,
        }
        return lightning.Trainer(**{**quiet, **arguments})

    return build


@pytest.fixture
def strategy() -> Callable[..., PopTorchStrategy]:
    """(splits=(), **arguments) -> a strategy of four micro-batches per call."""

    def build(*arguments: Any, **named: Any) -> PopTorchStrategy:
        return PopTorchStrategy(options(), poptorch.Options(), *arguments, **named)

    return build
