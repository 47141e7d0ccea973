"""Lightning's loop around PopTorch's executors: one batch of Lightning's is one call.

A call does `device_iterations` updates of the weights, each from the mean gradient of
`gradientAccumulation` micro-batches on every replica. All of that is PopTorch's, clipping too; what
Lightning would do about it is refused.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import lightning.pytorch as lightning
import torch
from lightning.pytorch.plugins import CheckpointIO, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from detectors.checkpoints import apply_checkpoints
from detectors.experiment.autocast import Autocast
from detectors.experiment.lightning_accelerator import PopTorchAccelerator
from detectors.experiment.lightning_module import DetectionModule
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["PopTorchAccelerator", "PopTorchStrategy"]

LOADER_ARGUMENTS = (
    "batch_size",
    "sampler",
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
)
"""What a loader for an executor takes over from torch's."""


class PopTorchStrategy(SingleDeviceStrategy):
    """Runs a `DetectionModule` on `poptorch.trainingModel` and `poptorch.inferenceModel`.

    Its dataloaders hold micro-batches; they become loaders of whole calls. Weights come to the host
    for checkpoints, the optimizer's state goes with them.

    Args:
        training_options: of the training executor; its output mode is set to All, since the losses
            of every micro-batch are wanted.
        inference_options: of the other one.
        splits: modules that start a stage, as `apply_splits` takes them; of the evaluating executor
            too, whose options say what it makes of them.
        checkpoints: modules whose inputs are kept in training, as `apply_checkpoints` takes them.
        device: cpu, cuda or ipu.
        precision: fp32, or mixed: the model's `half_parts` on the IPU, autocast on CUDA, fp32 still
            on the CPU, which has nothing to gain.
        checkpoint_io: as Lightning's strategies take it.
        rank: of this process, where several train; the first writes.
        shared: each of them has a part of one model.

    Raises:
        ValueError: `precision` is another word.
    """

    def __init__(
        self,
        training_options: poptorch.Options,
        inference_options: poptorch.Options,
        splits: Sequence[str] = (),
        device: str = "cpu",
        precision: str = "fp32",
        *,
        checkpoints: Sequence[str] = (),
        checkpoint_io: Optional[CheckpointIO] = None,
        rank: int = 0,
        shared: bool = False,
    ) -> None:
        if precision not in ("fp32", "mixed"):
            raise ValueError(f"precision must be fp32 or mixed, got '{precision}'")
        super().__init__(device="cpu", checkpoint_io=checkpoint_io)
        self.global_rank = rank
        self.shared = shared
        self._failed = False
        self.training_options = training_options.clone()
        self.training_options.outputMode(poptorch.OutputMode.All)
        self.inference_options = inference_options
        self.splits = tuple(splits)
        self.checkpoints = tuple(checkpoints)
        self.device = device
        self.precision = precision
        self.training: Optional[poptorch.PoplarExecutor] = None
        self.inference: Optional[poptorch.PoplarExecutor] = None
        self.rates: List[float] = []
        """Learning rates that the executor knows."""
        self.images_per_inference: Optional[int] = None
        """Batch size that the inference executor was compiled for."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes."""
        return self.global_rank == 0

    @property
    def updates_per_call(self) -> int:
        """Updates of the weights for each `global_step` of the trainer."""
        return int(self.training_options.device_iterations)

    @property
    def module(self) -> DetectionModule:
        """What is trained.

        Raises:
            TypeError: it is another LightningModule.
        """
        module = self.lightning_module
        if not isinstance(module, DetectionModule):
            raise TypeError(
                f"PopTorchStrategy runs a DetectionModule, got {type(module).__name__}: it compiles"
                " the modules that it finds there"
            )
        return module

    # ---- setting up ------------------------------------------------------------------------------

    def setup_environment(self) -> None:
        """Choose the device of the executors; batches and weights stay on the host."""
        if IS_HOST:
            poptorch.host.configure(device=self.device)

    def setup(self, trainer: lightning.Trainer) -> None:
        """Wrap the module's models; they compile on their first batch.

        Raises:
            ValueError: the Trainer is asked for what is PopTorch's, or a name in `splits` or
                `checkpoints` is wrong.
        """
        refuse(trainer)
        module = self.module
        if self.precision == "mixed" and not IS_HOST:
            model: Any = module.model
            for name in model.half_parts:
                getattr(model.network, name).half()
        super().setup(trainer)
        fitting = trainer.state.fn == TrainerFn.FITTING
        apply_splits(module.training_model if fitting else module.model, self.splits)
        if fitting:
            apply_checkpoints(module.training_model, self.checkpoints)
            self._setup_training(module)
        self.inference = poptorch.inferenceModel(module.model, self.inference_options)
        self.images_per_inference = None
        module.run_inference = self.run_inference

    def _setup_training(self, module: DetectionModule) -> None:
        (optimizer,) = self.optimizers
        if not isinstance(optimizer, poptorch.optim.Optimizer):
            raise ValueError(
                f"PopTorchStrategy needs an optimizer of poptorch.optim, got"
                f" {type(optimizer).__name__}, whose state a checkpoint would lack; pass"
                " build_optimizer to DetectionModule"
            )
        graph: nn.Module = module.training_model
        if self.precision == "mixed":
            graph = Autocast(graph, self.device)
        self.training = poptorch.trainingModel(graph, self.training_options, optimizer=optimizer)
        self.rates = rates_of(optimizer)
        module.run_training = self.run_training

    def model_to_device(self) -> None:
        """Nothing: executors copy the weights to their device."""

    def on_exception(self, exception: BaseException) -> None:
        """Stop here: other ranks may not come to `teardown`, or be in the middle of a step."""
        self._failed = True

    def teardown(self) -> None:
        """Bring weights and optimizer state to the host, give the devices back.

        After an error nothing is touched that other processes have a part in: what comes to the
        host is collected from everybody.
        """
        if isinstance(self.lightning_module, DetectionModule):
            self.lightning_module.run_training = self.lightning_module.train_here
            self.lightning_module.run_inference = self.lightning_module.infer_here
        if self._failed and self.shared:
            return
        for executor in (self.training, self.inference):
            if executor is not None:
                executor.destroy()
        self.training = self.inference = None
        if isinstance(self.lightning_module, DetectionModule):
            poptorch.removeBlocks(self.lightning_module)
        super().teardown()

    # ---- data ------------------------------------------------------------------------------------

    def process_dataloader(self, dataloader: object) -> object:
        """A loader of micro-batches -> one of calls."""
        if not isinstance(dataloader, DataLoader) or isinstance(dataloader, poptorch.DataLoader):
            return dataloader
        if dataloader.batch_size is None:
            raise ValueError(
                "PopTorchStrategy joins micro-batches to calls and needs to know their size: give"
                " the DataLoader batch_size and sampler, no batch_sampler"
            )
        trainer = self.module.trainer
        options = self.training_options if trainer.training else self.inference_options
        loader = poptorch.DataLoader(
            options,
            dataloader.dataset,
            drop_last=trainer.training,
            auto_distributed_partitioning=False,
            **{name: getattr(dataloader, name) for name in LOADER_ARGUMENTS},
        )
        if not trainer.training:
            self.images_per_inference = loader.combinedBatchSize
        return loader

    # ---- running ---------------------------------------------------------------------------------

    def run_training(self, *tensors: Tensor) -> Tuple[Tensor, Tensor]:
        """One call; loss (n,) and losses (n * L,) of its n micro-batches."""
        assert self.training is not None
        loss, losses = self.training(*tensors)
        return loss, losses

    def run_inference(self, images: Tensor) -> Any:
        """Detections of a batch, which is filled up to the compiled size with its first image."""
        assert self.inference is not None
        count = len(images)
        missing = (self.images_per_inference or count) - count
        if missing > 0:
            images = torch.cat([images, images[:1].expand(missing, *images.shape[1:])])
        found = self.inference(images)
        return type(found)(*(tensor[:count] for tensor in found))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Tell the executor of a new learning rate."""
        (optimizer,) = self.optimizers
        rates = rates_of(optimizer)
        if rates != self.rates:
            assert self.training is not None
            self.training.setOptimizer(optimizer)
            self.rates = rates

    def backward(
        self,
        closure_loss: Tensor,
        optimizer: Optional[torch.optim.Optimizer],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Nothing: it is done."""
        return closure_loss

    def optimizer_step(
        self,
        optimizer: torch.optim.Optimizer,
        closure: Any,
        model: Union[lightning.LightningModule, nn.Module, None] = None,
        **kwargs: Any,
    ) -> Any:
        """The training step, in which the executor has updated the weights."""
        return closure()

    def on_validation_start(self) -> None:
        """Let inference have the device."""
        detach(self.training)

    def on_validation_end(self) -> None:
        """Let training have it again; its next call takes it."""
        detach(self.inference)

    # ---- checkpoints -----------------------------------------------------------------------------

    def weights_to_host(self) -> None:
        """Bring the weights that the device has; training goes on there. All ranks together."""
        if self.training is not None and self.training.isAttachedToDevice():
            self.training.copyWeightsToHostIfNeeded()

    def lightning_module_state_dict(self) -> Dict[str, Any]:
        """The module's, with the weights that the device has."""
        self.weights_to_host()
        return super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
        """PopTorch's state, tensors by its names; empty before the first call."""
        return getattr(optimizer, "_optimizer", optimizer).state_dict() or {}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep the state until the executor compiles.

        Raises:
            ValueError: a run without PopTorch has written it.
        """
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"]):
            if state and "ipu_state" not in state:
                raise ValueError(
                    "the checkpoint's optimizer state is torch's: it was trained without PopTorch;"
                    " go on with a plain Trainer, or start from its weights (model.weights=...)"
                )
            if state:
                optimizer.load_state_dict(dict(state))


def rates_of(optimizer: torch.optim.Optimizer) -> List[float]:
    """The learning rate of every group."""
    return [group["lr"] for group in optimizer.param_groups]


def detach(executor: Optional[poptorch.PoplarExecutor]) -> None:
    """Give the device back, if it was taken."""
    if executor is not None and executor.isAttachedToDevice():
        executor.detachFromDevice()


def refuse(trainer: lightning.Trainer) -> None:
    """Raise ValueError where the Trainer would do what PopTorch does."""
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}) must be 1 with"
            " PopTorchStrategy: set gradient_accumulation in the recipe, which is"
            " poptorch.Options().Training.gradientAccumulation"
        )
    if trainer.gradient_clip_val is not None:
        raise ValueError(
            f"Trainer(gradient_clip_val={trainer.gradient_clip_val}) must be None with"
            " PopTorchStrategy: set optim.max_grad_norm in the recipe"
        )
    if type(trainer.precision_plugin) is not Precision:
        raise ValueError(
            f"Trainer(precision={trainer.precision!r}) must be 32-true with PopTorchStrategy: set"
            " precision=mixed in the recipe, or PopTorchStrategy(precision='mixed')"
        )
