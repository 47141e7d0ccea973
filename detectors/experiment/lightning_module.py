"""A detector as a LightningModule: for `lightning.Trainer` alone, or with `PopTorchStrategy`.

n micro-batches of a call, L terms of the loss, B images. A step is an update of the weights.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

__all__ = ["DetectionModule", "Judge", "TensorBatch"]

DEFAULT_LR = 0.005  # for the few images per step that a first try has


class TensorBatch(Protocol):
    """What a batch must offer, besides `to(device)`; `data.collate.Batch` does."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W)."""

    @property
    def tensors(self) -> Tuple[Tensor, ...]:
        """What the training module's forward takes."""

    @property
    def placements(self) -> Sequence[Any]:
        """One per image: for the judge alone."""


class Judge(Protocol):
    """What compares detections with the truth."""

    def add(self, detections: Any, placements: Sequence[Any]) -> None:
        """Take what was found in a batch: tensors on the CPU, in pixels of the network's input."""

    def finish(self, step: int) -> Mapping[str, float]:
        """The metrics of all that was added, which is forgotten."""


class DetectionModule(lightning.LightningModule):
    """Trains a detector, and validates it if there is a judge.

    Its checkpoints hold the parameters of `model` under the prefix `model.`, and nothing twice.

    Args:
        model: an inference detector; `model.for_training()` shares its network.
        build_optimizer: makes the optimizer of the module it is given; None = torch's SGD.
        learning_rate: step -> learning rate, for all groups; None = leave it as it is.
        judge: what validates; None = validation is off.
        record: plain values, stored in checkpoints under "detectors".
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        build_optimizer: Optional[Callable[[nn.Module], torch.optim.Optimizer]] = None,
        learning_rate: Optional[Callable[[int], float]] = None,
        judge: Optional[Judge] = None,
        record: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_model: nn.Module = model.for_training()  # type: ignore[operator]
        self.loss_names: Tuple[str, ...] = tuple(self.training_model.loss_names)
        self.build_optimizer = build_optimizer or default_optimizer
        self.learning_rate = learning_rate
        self.judge = judge
        self.record = record
        self.run_training: Callable[..., Tuple[Tensor, Tensor]] = self.train_here
        """Tensors of a batch -> loss and losses; a strategy may put an executor in its place."""
        self.run_inference: Callable[[Tensor], Any] = self.infer_here
        """Images -> detections; likewise."""
        self.losses: List[Tensor] = []
        """Of the micro-batches of this step so far, each (n, L)."""
        self.train()

    def train_here(self, *tensors: Tensor) -> Tuple[Tensor, Tensor]:
        """Run the training module in this process."""
        loss, losses = self.training_model(*tensors)
        return loss, losses

    def infer_here(self, images: Tensor) -> Any:
        """Run the model in this process."""
        return self.model(images)

    @property
    def updates_per_call(self) -> int:
        """Steps of each `global_step` of the trainer: PopTorch's device iterations, else 1."""
        return int(getattr(self.trainer.strategy, "updates_per_call", 1))

    @property
    def step(self) -> int:
        """Updates of the weights so far."""
        return self.trainer.global_step * self.updates_per_call

    # ---- training --------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Everything is trained in training mode; without a judge there is no validation.

        Raises:
            ValueError: a judge would see one process's share of the pictures only.
        """
        if self.judge is not None and self.trainer.world_size > 1:
            raise ValueError(
                f"a judge needs all pictures in one process, here are {self.trainer.world_size}:"
                " train with judge=None, then Trainer(devices=1).validate(...)"
            )
        if stage == "fit":
            self.train()
            if self.judge is None:
                self.trainer.limit_val_batches = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one of `build_optimizer`; the learning rate is no scheduler's."""
        return self.build_optimizer(self.training_model)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Nothing where an executor keeps the gradients: asking would copy its weights."""
        if self.run_training == self.train_here:
            optimizer.zero_grad()

    def on_train_batch_start(self, batch: TensorBatch, batch_idx: int) -> None:
        """Set this step's learning rate."""
        if self.learning_rate is not None:
            rate = self.learning_rate(self.step)
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate

    def training_step(self, batch: TensorBatch, batch_idx: int) -> Dict[str, Tensor]:
        """Loss of a batch.

        Returns:
            loss: (), the mean over micro-batches, and losses: (n, L) float32 on the CPU, detached.
        """
        loss, losses = self.run_training(*batch.tensors)
        rows = losses.detach().reshape(-1, len(self.loss_names)).float().cpu()
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.losses = []
        self.losses.append(rows)
        self.log_step()
        return {"loss": loss.mean(), "losses": rows}

    def log_step(self) -> None:
        """The means over all micro-batches of this step so far."""
        means = torch.cat(self.losses).mean(dim=0)
        values = {f"train/loss_{name}": mean for name, mean in zip(self.loss_names, means)}
        values["train/loss"] = means.sum()
        values["optim/lr"] = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log_dict({**values, "step": float(self.step + self.updates_per_call)}, batch_size=1)

    # ---- validation ------------------------------------------------------------------------------

    def validation_step(self, batch: TensorBatch, batch_idx: int) -> None:
        """Detect, and tell the judge."""
        detections = self.run_inference(batch.images)
        if self.judge is not None and not self.trainer.sanity_checking:
            on_cpu = type(detections)(*(tensor.cpu() for tensor in detections))
            self.judge.add(on_cpu, batch.placements)

    def on_validation_epoch_end(self) -> None:
        """Log what the judge says, as `val/...`."""
        if self.judge is not None and not self.trainer.sanity_checking:
            metrics = self.judge.finish(self.step)
            values = {f"val/{name}": float(value) for name, value in metrics.items()}
            self.log_dict({**values, "step": float(self.step)}, batch_size=1)

    # ---- checkpoints -----------------------------------------------------------------------------

    def state_dict(  # type: ignore[override]  # torch's is overloaded
        self,
        *,
        destination: Optional[Dict[str, Any]] = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> Dict[str, Any]:
        """The model's, under `model.`."""
        options: Dict[str, Any] = {"destination": destination, "keep_vars": keep_vars}
        state: Dict[str, Any] = self.model.state_dict(prefix=f"{prefix}model.", **options)
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """The reverse; errors are torch's."""
        known = {
            key[len("model.") :] if key.startswith("model.") else f"(not model.){key}": value
            for key, value in state_dict.items()
        }
        options = {"assign": True} if assign else {}  # since torch 2.1
        return self.model.load_state_dict(known, strict=strict, **options)

    def on_save_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        """Say what model this is."""
        if self.record is not None:
            checkpoint["detectors"] = dict(self.record)


def default_optimizer(module: nn.Module) -> torch.optim.Optimizer:
    """For a first try."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=DEFAULT_LR, momentum=0.9, weight_decay=1e-4)
