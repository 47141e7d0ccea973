"""The engine of training: each micro-batch forward and backward, an update after every GA * R.

GA gradient accumulation, R replicas. Replicas share parameters and run in turn; buffers that
`forward` writes are each replica's own.
"""

from __future__ import annotations

import contextlib
from typing import (
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

import torch
from torch import nn

from .. import _state
from .._logging import logger
from ..capture.loss import IDENTITY, LossCatcher, LossPoint, LossWatch
from ..capture.program import Program
from ..errors import createPoptorchError
from ..graph.recomputed_forward import RecomputedForward, is_wanted
from ..optim.device import DeviceOptimizer
from ..settings import Settings
from ..tensors import half
from ..tensors.arguments import Arguments
from ..tensors.ipu_device import IpuDevice
from .anchors import Anchors
from .engine import Engine, Layout, Replica
from .gradients import Gradients


class Update(NamedTuple):
    """When and how weights are updated."""

    optimizer: DeviceOptimizer
    micro_batches: int
    """Of one update: GA * R."""
    mean: bool
    """Reduce gradients by their mean, else their sum."""
    running: bool
    """Keep the mean while accumulating."""
    add_others: Optional[Callable[[Dict[str, torch.Tensor]], int]] = None
    """Adds the gradients of other processes, as `Gradients.take` wants it."""


class TrainingEngine(Engine):
    """One compiled model that learns."""

    def __init__(
        self,
        pristine: nn.Module,
        program: Program,
        arguments: Arguments,
        replicas: int,
        layout: Layout,
        settings: Settings,
        update: Update,
    ) -> None:
        """Copy the weights; arguments as `Engine`'s.

        Raises:
            poptorch.Error: `host.configure(engine=)` is not eager.
        """
        if settings.engine != "eager":
            raise createPoptorchError(
                f"host.configure(engine={settings.engine!r}) is for inference: a trainingModel"
                " needs engine='eager'"
            )
        super().__init__(pristine, program, arguments, replicas, layout, settings)
        assert program.loss is not None
        self._point: LossPoint = program.loss
        self._update = update
        self.updated = False
        """Whether the latest call has changed weights."""
        self._per_replica = update.micro_batches // replicas
        self._since_update = 0
        self._gradients = Gradients(mean=update.mean, running=update.running)
        self.trained: Dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in self._replicas[0].module.named_parameters()
            if parameter.requires_grad
        }
        """Parameters on the device that get a gradient, by name."""
        self._recomputed: List[RecomputedForward] = []
        """Of each replica; empty if all activations are kept."""
        if is_wanted(program, settings):
            trees = [replica.module for replica in self._replicas]
            self._recomputed = [RecomputedForward(tree, program, arguments) for tree in trees]
        self._storages = {
            tensor.untyped_storage().data_ptr() for tensor in self._replicas[0].weights.values()
        }

    @torch.inference_mode(False)
    def run(
        self, index: int, inputs: List[torch.Tensor], seed: Optional[int]
    ) -> List[torch.Tensor]:
        """Run one micro-batch forward and backward; the last of an update changes the weights.

        Those of an update come replica by replica, in the order of `microbatch.order`.
        """
        inputs = [tensor.clone() if tensor.is_inference() else tensor for tensor in inputs]
        if index == 0:  # a call that failed may have left some
            self.updated = False
            self._since_update = 0
            self._gradients.clear()
            for parameter in self.trained.values():
                parameter.grad = None
        position = index % len(self._replicas)
        replica = self._replicas[position]
        catcher = LossCatcher(self._point)
        try:
            with self._training_modes(seed, catcher):
                with _state.running(losses=catcher, seed=seed):
                    results = self._results(position, inputs, catcher)
                outputs = [self._detached(result) for result in results]
                self._check(outputs)
                # Activations may be computed once more on the way back: in this thread, where the
                # modes are, also for a GPU.
                with _state.running(seed=seed), torch.autograd.set_multithreading_enabled(False):
                    self._backward(catcher.loss)
        finally:
            replica.restore()
            self._cut_buffers(replica)
        if self._anchors is not None:
            own = {name: replica.weights[name] for name in self.trained}
            self._anchors.take_gradients(own)
        self._update.optimizer.track(self.trained)
        self._gradients.add(self.trained, self._update.optimizer.accum_type)
        self._since_update += 1
        if self._since_update % self._per_replica == 0:
            self._gradients.close()
        if self._since_update == self._update.micro_batches:
            self._since_update = 0
            gradients = self._gradients.take(
                self._update.optimizer.loss_scaling, self._update.add_others
            )
            self.updated = True
            self._update.optimizer.step(self.trained, gradients)
        if self._anchors is not None:
            self._anchors.finish(replica.weights, self._update.optimizer.loss_scaling)
        return outputs

    def keep(self, anchors: Anchors) -> None:
        """As `Engine.keep`; operators have names in the model's own forward only."""
        if anchors.watches_operators and self._recomputed:
            logger.warning(
                "Nothing is recomputed, all activations are kept: tensors are anchored by name"
            )
            self._recomputed = []
        super().keep(anchors)

    def _results(
        self, position: int, inputs: List[torch.Tensor], catcher: LossCatcher
    ) -> List[torch.Tensor]:
        if self._recomputed and not self._recomputed[position].prepare(inputs):
            self._recomputed = []
        if not self._recomputed:
            return self._forward(position, inputs)
        *results, catcher.loss = self._recomputed[position](inputs)
        return results

    def optimizer_state(self) -> Dict[str, torch.Tensor]:
        """The optimizer's state, as `DeviceOptimizer.state`."""
        return self._update.optimizer.state()

    def load_optimizer_state(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> Tuple[List[str], List[str]]:
        """Take the optimizer's state, as `DeviceOptimizer.load`."""
        return self._update.optimizer.load(tensors, self.trained)

    def _copies(self, pristine: nn.Module, count: int) -> List[Replica]:
        shared: Dict[int, nn.Parameter] = {}
        return [Replica(pristine, self.program, self.layout, shared) for _ in range(count)]

    def _detached(self, result: torch.Tensor) -> torch.Tensor:
        result = result.detach()
        # The update changes weights, the next micro-batch buffers and inputs.
        shared = result.untyped_storage().data_ptr() in self._storages
        result = result.clone() if shared or self._writes else result
        return result.cpu()

    def _backward(self, loss: Optional[torch.Tensor]) -> None:
        if loss is None or not loss.requires_grad:
            raise createPoptorchError(
                f"The loss ({self._point.name}) depends on no parameter that requires a gradient:"
                " all are frozen, or the path to them is cut by detach(), no_grad or an operator"
                " without derivative"
            )
        scaling = torch.full_like(loss, self._update.optimizer.loss_scaling)
        torch.autograd.backward([loss], [scaling])

    def _cut_buffers(self, replica: Replica) -> None:
        """No gradient flows from one micro-batch to the next through a buffer."""
        for name in self.program.written_buffers:
            if replica.weights[name].requires_grad:
                replica.weights[name].detach_()

    @contextlib.contextmanager
    def _training_modes(self, seed: Optional[int], catcher: LossCatcher) -> Iterator[None]:
        on_cpu = self._device_type == "cpu"
        modes: List[ContextManager[object]] = [torch.enable_grad()]
        if seed is not None:
            modes.append(torch.random.fork_rng(devices=[] if on_cpu else [self.layout.device]))
        if not on_cpu:
            modes.append(self.layout.device)
        if self.program.uses_half:
            modes += [half.HalfRounding()] if on_cpu else []  # type: ignore[no-untyped-call]
            modes.append(half.InputDtype())
        if self.program.names_ipu:
            modes.append(IpuDevice())
        if self._point.name != IDENTITY:
            modes.append(LossWatch(catcher))
        with contextlib.ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            if seed is not None:
                torch.manual_seed(seed)
            yield
