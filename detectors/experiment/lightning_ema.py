"""Exponential moving averages of a detector's weights: what is evaluated, beside what is trained.

n counts updates of the weights, d is a decay.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from detectors.experiment.averages import averaged_names, decay_over, wide
from detectors.experiment.lightning_checkpoints import steps_done
from detectors.experiment.lightning_module import DetectionModule
from detectors.weights.source import AVERAGED

__all__ = ["WeightAverage"]

PREFIX = "model."  # of a DetectionModule's checkpoints
STEP = "ema_step"


class WeightAverage(Callback):
    """Keeps averages of all trained parameters and of floating buffers, which are batch norms'
    statistics; other buffers never change. Evaluations of a `fit` see the averages, training does
    not. Stands before `Checkpoints` in the list, behind `LossGuard`.

    After update n the average moves by `average = d * average + (1 - d) * weight` with
    d = min(decay, (1 + n) / (10 + n)): AutoML's rule, by which the first weights are soon
    forgotten. Where one look covers several updates (`every`, PopTorch's device iterations), the
    latest weights stand for all of them, and d is the product of their decays.

    Checkpoints get the averages under a key of their own, complete beside the raw weights; what is
    not averaged is the same tensor in both, which torch writes once.

    Args:
        decay: of a long run; 0 <= decay < 1.
        every: updates between two looks: each copies all weights from the device.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, decay: float, every: int = 1) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be 0 <= d < 1, got {decay}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.decay = decay
        self.every = every
        self.averages: Dict[str, Tensor] = {}
        """By the model's names; float32 of half weights. Empty before training."""
        self.step = 0
        """Updates that the averages cover."""
        self._weights: List[Tensor] = []  # on the host, in the averages' order
        self._raw: Dict[str, Tensor] = {}  # while the model has the averages
        self._saved: Optional[Dict[str, Any]] = None

    # ---- averaging -------------------------------------------------------------------------------

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: Dict[str, Any],
    ) -> None:
        """Keep what a run that goes on has left.

        Raises:
            ValueError: it had no averages.
        """
        if trainer.state.fn != "fit":
            return
        if STEP not in checkpoint:
            raise ValueError(
                "the checkpoint has no averages of its weights to go on with: it was trained with"
                " optim.ema=0; leave optim.ema at 0, or start from its weights (model.weights=...)"
            )
        self._saved = checkpoint

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin with the weights as they are, or where the run was left."""
        model = detector(pl_module)
        state = model.state_dict()
        names = averaged_names(model)
        self._weights = [state[name] for name in names]
        self.averages = {name: wide(state[name]).clone() for name in names}
        self.step = steps_done(trainer)
        if self._saved is not None:
            for name, average in self.averages.items():
                average.copy_(self._saved[AVERAGED][PREFIX + name])
            self.step = int(self._saved[STEP])
            self._saved = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the averages, where a multiple of `every` was reached or passed."""
        step = steps_done(trainer)
        if step // self.every == self.step // self.every:
            return
        fetch = getattr(trainer.strategy, "weights_to_host", None)
        if fetch is not None:  # ranks of a pipeline all come here, at the same steps
            fetch()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.averages.values()),
                [wide(weight) for weight in self._weights],
                1 - decay_over(self.decay, self.step, step),
            )
        self.step = step

    # ---- evaluating ------------------------------------------------------------------------------

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Give the model the averages. By now the strategy has brought the raw weights to the host
        and taken the device from training; inference copies the host's when it takes it.
        """
        if self.averages and not trainer.sanity_checking:
            state = detector(pl_module).state_dict()
            self._raw = {name: state[name].clone() for name in self.averages}
            write(state, self.averages)

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Give the model its own weights back, before training takes the device again."""
        self._restore(pl_module)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Likewise, when an evaluation is left early."""
        self._restore(pl_module)

    def _restore(self, pl_module: lightning.LightningModule) -> None:
        if self._raw:
            write(detector(pl_module).state_dict(), self._raw)
            self._raw = {}

    # ---- checkpoints -----------------------------------------------------------------------------

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: Dict[str, Any],
    ) -> None:
        """Raw weights stay where they are; the averages come beside them."""
        if not self.averages:
            return
        state = checkpoint["state_dict"]
        state.update({PREFIX + name: value for name, value in self._raw.items()})
        averages = {PREFIX + name: value for name, value in self.averages.items()}
        checkpoint[AVERAGED] = {**state, **averages}
        checkpoint[STEP] = self.step


def detector(module: lightning.LightningModule) -> nn.Module:
    """The model of a DetectionModule.

    Raises:
        TypeError: it is another module.
    """
    if not isinstance(module, DetectionModule):
        raise TypeError(
            f"WeightAverage averages the model of a DetectionModule, got {type(module).__name__}"
        )
    return module.model


def write(state: Dict[str, Tensor], values: Dict[str, Tensor]) -> None:
    """Copy values into a model's tensors, by name."""
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
