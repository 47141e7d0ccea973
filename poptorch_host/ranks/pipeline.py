"""One part of a model under a schedule of torch.distributed.pipelining: this rank's stage.

Tensors cross between ranks contiguous. What a stage sends carries a gradient back only where the
part's meta tensors say so; integers never do. Imported only where torch has pipelining.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from .. import _state
from ..capture.program import Program
from ..engine.engine import Layout
from ..errors import createPoptorchError
from ..graph.parts import Part
from ..tensors import half
from .ranks import Mesh

SCHEDULES: Dict[str, Any] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
Results = List[torch.Tensor]
"""What the last part returns of one micro-batch, without the loss."""

if "arg_mbs" not in inspect.signature(ScheduleGPipe.step).parameters:
    raise ImportError("torch.distributed.pipelining takes no micro-batches that are cut already")


class Pipeline:
    """This rank's stage, and the schedules that run it."""

    def __init__(
        self,
        parts: Sequence[Part],
        mesh: Mesh,
        program: Program,
        layout: Layout,
        *,
        schedule: str,
        loss_scaling: Optional[Callable[[], float]],
        after_backward: Callable[[], None],
    ) -> None:
        """Build the stage.

        Args:
            parts: all of the model; this rank runs that of `mesh.stage`.
            schedule: "gpipe" or "1f1b".
            loss_scaling: factor of the loss, asked at each step; None in inference.
            after_backward: called after the backward pass of each micro-batch.
        """
        part = parts[mesh.stage]
        self._training = loss_scaling is not None
        self._last = mesh.stage == mesh.stages - 1
        self._kind = SCHEDULES[schedule]
        self._run = StageRun(part, program, layout, self._last, loss_scaling)
        sent = tuple(_wire(meta) for meta in part.outputs)
        if self._last:  # the loss alone; results stay in `StageRun`
            sent = sent[-1:] if self._training else ()
        received: Tuple[torch.Tensor, ...] = ()
        if mesh.stage:  # as the stage before sends it, gradient and all
            received = tuple(_wire(meta) for meta in parts[mesh.stage - 1].outputs)
        self._stage = Stage(
            self._run,
            mesh.stage,
            mesh.stages,
            layout.device,
            input_args=received,
            output_args=sent,
            group=mesh.pipeline,
        )
        self._stage.after_backward = after_backward
        self._stage.modes = lambda: _modes(program, layout)
        self._schedules: Dict[int, Any] = {}

    def step(
        self, inputs: List[Tuple[torch.Tensor, ...]], seeds: Sequence[Optional[int]]
    ) -> List[Results]:
        """Run micro-batches through all stages, in training back again.

        Args:
            inputs: of each micro-batch, on the first stage; empty on others.
            seeds: of each micro-batch's random numbers.

        Returns:
            results of each micro-batch on the last stage, nothing elsewhere.
        """
        count = len(seeds)
        if count not in self._schedules:
            # 1F1B wants a micro-batch for each stage; fewer come only where nothing overlaps.
            kind = self._kind if count >= self._stage.num_stages else ScheduleGPipe
            loss_fn = _same if self._training else None
            self._schedules[count] = kind(self._stage, count, loss_fn=loss_fn, scale_grads=False)
        self._run.begin(seeds)
        with torch.enable_grad() if self._training else torch.no_grad():
            self._schedules[count].step(
                arg_mbs=inputs or [()] * count,
                target_mbs=[None] * count if self._training and self._last else None,
                return_outputs=False,
            )
        return self._run.results


class StageRun(nn.Module):
    """Runs a part on the micro-batches of one step, one call each, in order."""

    def __init__(
        self,
        part: Part,
        program: Program,
        layout: Layout,
        last: bool,
        loss_scaling: Optional[Callable[[], float]],
    ) -> None:
        super().__init__()
        self.module = part.module
        self._outputs = part.outputs
        self._program = program
        self._layout = layout
        self._last = last
        self._loss_scaling = loss_scaling
        self._changing = {
            tensor.untyped_storage().data_ptr()
            for tensor in [*part.module.parameters(), *part.module.buffers()]
        }
        self._seeds: List[Optional[int]] = []
        self.results: List[Results] = []

    def begin(self, seeds: Sequence[Optional[int]]) -> None:
        """Expect the micro-batches of one step."""
        self._seeds = list(reversed(seeds))
        self.results = []

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Run the part on the next micro-batch; what leaves is contiguous and the stage's own."""
        seed = self._seeds.pop()
        with _modes(self._program, self._layout), _state.running(seed=seed):
            if seed is not None:
                torch.manual_seed(seed)
            outputs = list(self.module(*tensors))
            if not self._last:
                return tuple(self._sent(*pair) for pair in zip(outputs, self._outputs))
            loss = outputs.pop() if self._loss_scaling is not None else None
            self.results.append([self._kept(output) for output in outputs])
            if loss is None or self._loss_scaling is None:
                return ()
            return loss * self._loss_scaling()

    def _sent(self, output: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
        if output.shape != meta.shape or output.dtype != meta.dtype:
            raise createPoptorchError(
                f"A stage passed on {list(output.shape)} {output.dtype}, but"
                f" {list(meta.shape)} {meta.dtype} when it was compiled: it depends on something"
                " that is no input and changed since"
            )
        output = output if meta.requires_grad else output.detach()
        if output.untyped_storage().data_ptr() in self._changing:  # while it is on its way
            output = output.clone()
        return output.contiguous()

    def _kept(self, output: torch.Tensor) -> torch.Tensor:
        output = output.detach()
        shared = output.untyped_storage().data_ptr() in self._changing
        return (output.clone() if shared or self._program.written_inputs else output).cpu()


class Stage(PipelineStage):
    """torch's stage, with errors of the part as they are, and memory for as long as it is used.

    torch keeps a buffer for each micro-batch of a step; here each lives from its arrival to the
    end of its use, so that 1F1B holds what it is known for.
    """

    after_backward: Callable[[], None]
    modes: Callable[[], ContextManager[None]]

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> Any:
        """Make room for what a micro-batch brings."""
        _make_room(self.args_recv_info[fwd_chunk_id], self.device)
        return super().get_fwd_recv_ops(fwd_chunk_id)

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> Any:
        """Send; without a backward pass nothing is needed afterwards."""
        operations = super().get_fwd_send_ops(fwd_chunk_id)
        if not self.has_backward:
            del self.fwd_cache[fwd_chunk_id]
        return operations

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> Any:
        """Make room for the gradients that come back."""
        if self.has_backward and not self.is_last:
            _make_room(self.grad_recv_info[bwd_chunk_id], self.device)
        return super().get_bwd_recv_ops(bwd_chunk_id)

    def _setup_forward_recv_info(self, num_microbatches: int, has_backward: bool) -> None:
        super()._setup_forward_recv_info(num_microbatches, has_backward)
        for infos in self.args_recv_info.values():
            _free(infos)

    def _setup_backward_recv_info(self, num_microbatches: int) -> None:
        super()._setup_backward_recv_info(num_microbatches)
        for infos in self.grad_recv_info.values():
            _free(infos)

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        """Forward; what arrived is then kept by autograd only."""
        with _own_errors():
            output = super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)
        _free(self.args_recv_info[fwd_chunk_id])
        return output

    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **kwargs: Any) -> None:
        """Backward, in this thread, where the modes are."""
        if not self.has_backward:
            return
        threads = torch.autograd.set_multithreading_enabled(False)
        with _own_errors(), threads, self.modes(), _state.running():
            super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)
        if not self.is_last:
            _free(self.grad_recv_info[bwd_chunk_id])
        self.after_backward()


def _make_room(infos: Sequence[Any], device: torch.device) -> None:
    for info in infos:
        meta = info.tensor_meta
        if not info.is_root_arg and meta is not None:
            info.buffer = torch.empty(meta.shape, dtype=meta.dtype, device=device)


def _free(infos: Sequence[Any]) -> None:
    for info in infos:
        info.buffer = None


def _wire(meta: torch.Tensor) -> torch.Tensor:
    """How a tensor crosses: contiguous."""
    return torch.empty(
        meta.shape, dtype=meta.dtype, device="meta", requires_grad=meta.requires_grad
    )


def _same(output: torch.Tensor, target: object) -> torch.Tensor:
    """The loss as the last stage returns it."""
    return output


@contextlib.contextmanager
def _modes(program: Program, layout: Layout) -> Iterator[None]:
    on_cpu = layout.device.type == "cpu"
    with contextlib.ExitStack() as stack:
        if not on_cpu:
            stack.enter_context(layout.device)
        if program.uses_half:
            if on_cpu:
                stack.enter_context(half.HalfRounding())  # type: ignore[no-untyped-call]
            stack.enter_context(half.InputDtype())
        yield


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Let out what a part raised, without the text that torch puts around it."""
    try:
        yield
    except RuntimeError as error:
        if type(error) is RuntimeError and error.__cause__ is not None:
            raise error.__cause__ from error.__cause__.__cause__
        raise
