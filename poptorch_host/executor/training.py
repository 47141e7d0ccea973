"""The executor of `trainingModel`: each call runs DI * GA * R micro-batches and DI weight updates.

DI device iterations, GA gradient accumulation, R replicas. The weights live on the device: the
user's model reads them from there, optimizers keep their state there.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Dict, Iterator, Optional, Set, Union, cast

import torch
from torch import nn

from .. import settings
from .._logging import logger
from ..engine.engine import Layout
from ..engine.grouped_engine import GroupedTrainingEngine
from ..engine.training_engine import TrainingEngine, Update
from ..enums import MeanReductionStrategy, OutputMode, ReductionType
from ..errors import createPoptorchError
from ..executable.executable import Executable
from ..optim.converted import Converted, convert
from ..optim.device import DeviceOptimizer
from ..optim.loss_scale import LossScale
from ..optim.optimizer import Optimizer
from ..optim.replacement import check_replacement
from ..options import Options
from ..ranks import ranks
from ..ranks.instances import Instances
from ..tensors.arguments import Arguments
from .compiled import AnyEngine
from .executor import PoplarExecutor
from .user_model import Wrapping, is_dressed

if TYPE_CHECKING:  # it needs torch.distributed.pipelining
    from ..ranks.pipeline_engine import PipelineEngine

AnyTrainer = Union[TrainingEngine, "PipelineEngine"]


class TrainingExecutor(PoplarExecutor):
    """A model that is trained on the device, here the host. Made by `trainingModel`."""

    _training = True

    def __init__(
        self,
        model: Union[nn.Module, PoplarExecutor],
        options: Optional[Options],
        optimizer: Optional[torch.optim.Optimizer],
    ) -> None:
        """Wrap; compiling waits for the first call. Errors are those of `trainingModel`."""
        super().__init__(model, options)
        self._told: Set[str] = set()
        self._stale = False
        self._wrapping: Optional[Wrapping] = None
        self._on_device: Optional[DeviceOptimizer] = None
        self._instances: Optional[Instances] = None
        if optimizer is None:
            optimizer = torch.optim.SGD(self._user_model.parameters(), lr=0.01)
        self._optimizer = optimizer
        self._converted = self._convert(optimizer)
        self._wrap()

    def _own_options(self, options: Options) -> Options:
        own = options.clone()
        if own.defaultOutputMode():
            own.outputMode(OutputMode.Final)
        return own

    # ---- optimizer -------------------------------------------------------------------------------

    def setOptimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the attributes of an optimizer as they are now; state on the device stays.

        Raises:
            AssertionError: an optimizer of another type.
            poptorch.Error: it differs from the compiled one in what is constant.
            ValueError: its half accumulators would need another compilation.
        """
        converted = self._convert(optimizer)
        if self._on_device is not None:
            if converted.forces_running_mean and not self._on_device.converted.forces_running_mean:
                raise ValueError(
                    "Invalid optimizer: accum_type=torch.float16 needs the Running mean reduction"
                    " strategy, but the executable is already compiled."
                )
            check_replacement(self._on_device.converted, converted)
            self._on_device.converted = converted
            if optimizer is not self._optimizer:
                if isinstance(self._optimizer, Optimizer):
                    self._optimizer._device = None
                self._attach_optimizer(optimizer)
        self._optimizer, self._converted = optimizer, converted

    def optimizer_state(self) -> Dict[str, torch.Tensor]:
        """The optimizer's state on the device, by PopART's names."""
        if self._on_device is None:
            return {}
        return cast(AnyTrainer, self._engine).optimizer_state()

    def optimizer_parameters(self) -> Dict[str, torch.Tensor]:
        """The values that updates read, by PopART's names."""
        return {} if self._on_device is None else self._on_device.parameters()

    def _convert(self, optimizer: torch.optim.Optimizer) -> Converted:
        names = {id(weight): name for name, weight in self._model.named_parameters()}
        adapts = self._options.Training.auto_loss_scaling
        return convert(optimizer, names, self._tell, adapts_scale=adapts)

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            relaxed = self._options._relax_optimizer_checks
            (logger.debug if relaxed else logger.warning)(text)

    def _attach_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        if isinstance(optimizer, Optimizer):
            optimizer._device = self
            self._write_state(optimizer)

    def _write_state(self, optimizer: Optimizer) -> None:
        """Upload what the program loaded into the optimizer, if anything."""
        if not optimizer.host_state_is_dirty or optimizer._kept_state is None:
            return
        engine = cast(AnyTrainer, self._engine)
        unknown, missing = engine.load_optimizer_state(optimizer._kept_state)
        cast(DeviceOptimizer, self._on_device).load_parameters(optimizer._kept_parameters)
        if unknown:
            logger.warning("Optimizer state of no weight of this model is ignored: %s", unknown)
        if missing:
            logger.warning("The loaded optimizer state lacks these weights: %s", missing)
        optimizer.host_state_is_dirty = False

    def _release(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave an optimizer with a copy of the state, for the next executor."""
        if isinstance(optimizer, Optimizer) and optimizer._device is self:
            optimizer.state_dict()
            optimizer._device = None
            optimizer.host_state_is_dirty = True

    # ---- compiling and running -------------------------------------------------------------------

    @torch.inference_mode(False)
    def _compile(self, arguments: Arguments) -> None:
        self._wrap()
        super()._compile(arguments)

    def _take(self, executable: Executable, tree: nn.Module, micro_batch: Arguments) -> None:
        accumulation = self._options.Training.gradient_accumulation
        if getattr(self._optimizer, "host_state_is_dirty", False):
            self._converted = self._convert(self._optimizer)  # with the attributes that were loaded
        self._on_device = DeviceOptimizer(
            self._converted,
            accumulates=accumulation > 1,
            scale=self._loss_scale(tree),
            grouped=list(self._groupings),
        )
        try:
            super()._take(executable, tree, micro_batch)
        except BaseException:
            self._on_device = None
            raise
        self._attach_optimizer(self._optimizer)

    def _loss_scale(self, tree: nn.Module) -> Optional[LossScale]:
        """What automatic loss scaling needs, None without it."""
        if not self._options.Training.auto_loss_scaling:
            return None
        trained = [weight for weight in tree.parameters() if weight.requires_grad]
        if all(weight.dtype != torch.float16 for weight in trained):
            raise createPoptorchError(
                "Training.setAutomaticLossScaling(True): no gradient tensors of type fp16 were"
                " found to track. It needs a model with half weights: call model.half() before"
                " trainingModel, or leave it off"
            )
        return LossScale()

    def _channels_last(
        self, executable: Executable, tree: nn.Module, micro_batch: Arguments
    ) -> bool:
        return not executable.program.depends_on_layout

    def _make_engine(self, executable: Executable, tree: nn.Module, layout: Layout) -> AnyEngine:
        assert self._on_device is not None
        training = self._options.Training
        strategy = training.meanAccumulationAndReplicationReductionStrategy
        running = strategy == MeanReductionStrategy.Running
        if self._converted.forces_running_mean and not running:
            logger.info("accum_type is float16: gradients are reduced by a Running mean")
            running = True
        update = Update(
            optimizer=self._on_device,
            micro_batches=training.gradient_accumulation * self._options.replication_factor,
            mean=training.accumulation_and_replication_reduction_type == ReductionType.Mean,
            running=running,
        )
        if ranks.wanted(self._options, settings.current()):
            return self._make_stage(executable, tree, layout, update)
        if self._groupings:
            self._check_groupings()
        if self._options.Distributed.numProcesses > 1:
            self._instances = Instances(self._options, settings.current())
            self._rng = self._instances.same_numbers(self._rng)
            update = update._replace(add_others=self._instances.add_others)
        program, arguments = executable.program, executable.arguments
        others = (arguments, self._plan.replicas, layout, settings.current(), update)
        if self._groupings:
            return GroupedTrainingEngine(self._groupings, tree, program, *others)
        return TrainingEngine(tree, program, *others)

    def _check_groupings(self) -> None:
        if self._converted.max_grad_norm != math.inf:
            raise createPoptorchError(
                "max_grad_norm bounds the norm over all weights, which is not one number where"
                f" replicas have weights of their own: {list(self._groupings)}; leave out"
                " max_grad_norm or replicaGrouping"
            )
        if self._options.Distributed.numProcesses > 1:
            raise createPoptorchError(
                f"replicaGrouping of {list(self._groupings)} is for the replicas of one process;"
                f" options.Distributed has {self._options.Distributed.numProcesses}"
            )

    def _run(self, given: Arguments, arguments: Arguments) -> object:
        optimizer = self._optimizer
        if isinstance(optimizer, Optimizer) and optimizer.host_state_is_dirty:
            self.setOptimizer(optimizer)  # with the attributes that were loaded
            self._write_state(optimizer)
        try:
            return super()._run(given, arguments)
        finally:
            if not self._options.enable_synthetic_data:
                self._stale = True
                if isinstance(optimizer, Optimizer):
                    optimizer.ipu_state_is_dirty = True

    def _needs_plain_layout(self, error: RuntimeError) -> bool:
        return not cast(AnyTrainer, self._engine).updated and super()._needs_plain_layout(error)

    def destroy(self) -> None:
        """Bring weights and optimizer state to the host, drop the executable, free the model.

        The user's model is a plain module again; the next call would wrap and compile it anew.
        """
        self._pull()
        self._release(self._optimizer)
        super().destroy()
        self._on_device = None
        if self._wrapping is not None:
            self._wrapping.unwrap()
            self._wrapping = None

    # ---- weights ---------------------------------------------------------------------------------

    def copyWeightsToHost(self) -> None:
        """Write the device's parameters and buffers into the user model's."""
        with self._reading():
            super().copyWeightsToHost()
        self._changed()

    def copyWeightsToHostIfNeeded(self) -> bool:
        """`copyWeightsToHost` if calls changed the weights since; whether it was needed."""
        self._running_engine()
        return self._pull()

    def detachFromDevice(self) -> None:
        """Give the device back, weights and optimizer state brought to the host."""
        super().detachFromDevice()
        self._pull()

    def _pull(self) -> bool:
        """Bring newer weights home; those the program has replaced are left as they are."""
        if self._engine is None or not self._stale:
            return False
        with self._reading():
            self._make_room()
            ours = {name: one for name, one in self._named().items() if is_dressed(one)}
            self._engine.download({name: one.detach() for name, one in ours.items()})
        self._changed()
        return True

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """The host's weights are no longer stale: inside already, since reading them pulls."""
        stale, self._stale = self._stale, False
        try:
            yield
        except BaseException:
            self._stale = stale
            raise

    def _upload(self, engine: AnyEngine) -> None:
        weights = self._weights()
        if self._instances is not None:
            self._instances.same_weights(weights)
        engine.upload(weights)
        if self._wrapping is not None:
            self._wrapping.dress_new()
        self._changed()

    def _follow_training(self) -> None:
        """Nothing to follow: these are the weights that others follow."""

    def _changed(self) -> None:
        if self._wrapping is not None:
            self._wrapping.version += 1

    def _wrap(self) -> None:
        if self._wrapping is None:
            self._wrapping = Wrapping(self._user_model, self._pull, self.destroy, self._group)

    def _optimizer_to_save(self) -> torch.optim.Optimizer:
        return self._optimizer
