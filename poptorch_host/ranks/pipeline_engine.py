"""The engine of one rank: its stage of a captured model, run with the stages of the other ranks.

Every rank makes the same calls. Inputs are those of each replica's first rank; results, weights
and optimizer state come out equal on all ranks, as those of one process.
"""

from __future__ import annotations

import itertools
import time
from typing import Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import nn

from .._logging import logger
from ..blocks.stage_resolver import pipeline_stages
from ..blocks.strategies import PipelinedExecution
from ..engine.engine import Layout, Replica
from ..engine.gradients import Gradients
from ..engine.timing import Ticks
from ..engine.training_engine import Update
from ..enums import OutputMode
from ..errors import createPoptorchError
from ..executable.executable import Executable
from ..graph.parts import Part, split
from ..options import Options
from ..settings import Settings
from ..tensors import microbatch
from ..tensors.arguments import Arguments
from ..tensors.microbatch import Plan
from ..tensors.structure import flatten
from . import exchange, ranks
from .pipeline import Pipeline
from .ranks import World
from .stage_weights import StageWeights

Block = List[torch.Tensor]
_numbers = itertools.count()  # of engines, in the order in which every rank makes them


class PipelineEngine(StageWeights):
    """One compiled model, a stage of which is here."""

    def __init__(
        self,
        tree: nn.Module,
        executable: Executable,
        micro_batch: Arguments,
        plan: Plan,
        layout: Layout,
        world: World,
        *,
        schedule: str,
        overlap: bool,
        recompute: bool,
        update: Optional[Update],
    ) -> None:
        """Cut the model and take this rank's part; all ranks together.

        Args:
            tree: the module tree as it was before capture, around the host's tensors.
            micro_batch: arguments of one micro-batch where `layout` places them; values are not
                read.
            schedule: "gpipe" or "1f1b".
            overlap: stages work at the same time on several micro-batches.
            recompute: keep little of the forward pass and compute it again on the way back.
            update: how weights change; None in inference.

        Raises:
            poptorch.Error: stages x replicas are not the ranks of this run, or the loss depends on
                no weight.
        """
        self.layout = layout
        self.updated = False
        """Whether the latest call has changed weights."""
        label = f"{type(tree).__name__} (executor {next(_numbers)})"
        ranks.agree(world, f"compiles {label}")
        self._executable = executable
        self._program = executable.program
        self._plan = plan
        self._update = update
        self._overlap = overlap
        training = update is not None
        replica = Replica(tree, self._program, layout, {} if training else None)
        parts = split(
            replica.module, self._program, micro_batch, training=training, recompute=recompute
        )
        self._check_loss(parts)
        mesh = ranks.mesh(world, len(parts), plan.replicas)
        super().__init__(
            label, mesh, parts, replica.weights, None if update is None else update.optimizer
        )
        self._gradients = Gradients(
            mean=update is not None and update.mean,
            running=update is not None and update.running,
        )
        self._pipeline = Pipeline(
            parts,
            mesh,
            self._program,
            layout,
            schedule=schedule,
            loss_scaling=None if update is None else self._loss_scaling,
            after_backward=self._add_gradients,
        )
        if self._program.written_inputs:
            logger.warning(
                "forward changes its inputs %s in place: on several ranks the change is seen inside"
                " the model, and not written back to the caller's tensors",
                list(self._program.written_inputs),
            )

    # ---- a call ----------------------------------------------------------------------------------

    def run_blocks(
        self,
        tensors: List[torch.Tensor],
        next_seed: Callable[[], Optional[int]],
        ticks: Ticks,
    ) -> List[Block]:
        """Run every micro-batch of a call; all ranks together.

        Args:
            tensors: the call's inputs; read on the first rank of each replica.
            next_seed: called once per micro-batch of all replicas.
            ticks: gets the times on this rank.

        Returns:
            outputs of the micro-batches that are returned, of all replicas in order, on the CPU.
        """
        ranks.agree(self._mesh.world, f"calls {self._label}")
        with ranks.in_step():
            return self._run_blocks(tensors, next_seed, ticks)

    def _run_blocks(
        self,
        tensors: List[torch.Tensor],
        next_seed: Callable[[], Optional[int]],
        ticks: Ticks,
    ) -> List[Block]:
        plan, mesh = self._plan, self._mesh
        seeds = [next_seed() for _ in range(plan.micro_batches)]
        mine = range(mesh.replica, plan.micro_batches, plan.replicas)
        self._start()
        per_update = len(mine)
        if self._update is not None:
            per_update = self._update.micro_batches // plan.replicas
        results: Dict[int, Block] = {}
        for first in range(0, len(mine), per_update):
            indices = mine[first : first + per_update]
            for some in [indices] if self._overlap else [[index] for index in indices]:
                blocks = self._step(tensors, some, seeds, ticks)
                kept = [index for index in some if microbatch.returned(index, plan)]
                results.update({i: b for i, b in zip(some, blocks) if i in kept})
            if self._update is not None:
                self._change_weights(self._update)
        ticks.output.append(time.perf_counter())
        outputs = self._exchange(results)
        _fill(ticks, plan, len(outputs))
        return outputs

    def _step(
        self,
        tensors: List[torch.Tensor],
        indices: Sequence[int],
        seeds: List[Optional[int]],
        ticks: Ticks,
    ) -> List[Block]:
        ticks.input.append(time.perf_counter())
        inputs = []
        if self._mesh.stage == 0:
            inputs = [self._inputs(tensors, index) for index in indices]
        ticks.input_complete.append(time.perf_counter())
        blocks = self._pipeline.step(inputs, [seeds[index] for index in indices])
        if not self._overlap:
            dist.barrier(group=self._mesh.pipeline)
        return blocks

    def _inputs(self, tensors: List[torch.Tensor], index: int) -> Tuple[torch.Tensor, ...]:
        block = microbatch.block_of_input(index, self._plan)
        placed = []
        for position, (tensor, size) in enumerate(zip(tensors, self._executable.sizes)):
            value = self.layout.place(microbatch.input_block(tensor, block, size)).detach()
            written = position in self._program.written_inputs
            placed.append(value.clone() if written or value.is_inference() else value)
        return tuple(placed)

    def _exchange(self, results: Dict[int, Block]) -> List[Block]:
        """Results of the last stages, on all ranks and in order."""
        mesh, plan = self._mesh, self._plan
        template = flatten(self._program.outputs)
        places = [p for p in range(len(template)) if p not in self._program.constants]
        found: Dict[int, Block] = {}
        for replica in range(plan.replicas):
            of_replica = range(replica, plan.micro_batches, plan.replicas)
            indices = [index for index in of_replica if microbatch.returned(index, plan)]
            source = mesh.rank_of(mesh.stages - 1, replica)
            tensors = None
            if mesh.rank == source:
                tensors = [
                    self._checked(results[i][p], template[p]) for i in indices for p in places
                ]
            like = [template[p] for _ in indices for p in places]
            flat = iter(exchange.share_alike(self._mesh.world, source, tensors, like))
            for index in indices:
                block = dict.fromkeys(range(len(template)), torch.empty(0))
                block.update({place: next(flat) for place in places})
                found[index] = list(block.values())
        return [found[index] for index in sorted(found)]

    def _checked(self, result: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        if result.shape != expected.shape:
            raise createPoptorchError(
                f"forward returned a tensor of shape {list(result.shape)}, but"
                f" {list(expected.shape)} when it was compiled: it depends on something that is no"
                " input and changed since"
            )
        return result.to(expected.dtype)

    # ---- training --------------------------------------------------------------------------------

    def _start(self) -> None:
        """Forget what a call that failed may have left."""
        self.updated = False
        self._gradients.clear()
        for parameter in self.trained.values():
            parameter.grad = None

    def _loss_scaling(self) -> float:
        assert self._update is not None
        return self._update.optimizer.loss_scaling

    def _add_gradients(self) -> None:
        assert self._update is not None
        self._gradients.add(self.trained, self._update.optimizer.accum_type)

    def _change_weights(self, update: Update) -> None:
        """Reduce gradients over ranks and update this rank's weights."""
        gradients = self._gradients.take(update.optimizer.loss_scaling, self._add_others)
        self.updated = True
        update.optimizer.step(self.trained, gradients, self._norm)

    def _check_loss(self, parts: Sequence[Part]) -> None:
        if self._update is not None and not parts[-1].outputs[-1].requires_grad:
            assert self._program.loss is not None
            _refuse_loss(self._program.loss.name)


def make_stage(
    tree: nn.Module,
    executable: Executable,
    micro_batch: Arguments,
    plan: Plan,
    layout: Layout,
    options: Options,
    settings: Settings,
    rng: List[int],
    update: Optional[Update],
) -> PipelineEngine:
    """The engine of this rank as options and settings want it; arguments as `PipelineEngine`'s.

    Args:
        rng: seed and count of random numbers; becomes that of rank 0.

    Raises:
        poptorch.Error: automatic loss scaling or replicaGrouping, which are one process's.
    """
    if executable.groupings:
        raise createPoptorchError(
            f"replicaGrouping of {list(executable.groupings)} is for the replicas of one process;"
            " with stages on ranks use host.configure(schedule='sequential')"
        )
    if options.Training.auto_loss_scaling and update is not None:
        raise createPoptorchError(
            "Training.setAutomaticLossScaling(True) is for models that one process runs: with"
            " stages on ranks set loss_scaling of the optimizer"
        )
    world = ranks.join(settings)
    rng[:] = exchange.from_rank_zero(world, rng)
    overlap = isinstance(options._execution_strategy, PipelinedExecution)
    recompute = settings.recompute == "always"
    if settings.recompute == "auto" and overlap:  # 2.12
        several = pipeline_stages(list(executable.program.placements)) > 1
        recompute = several and options._Popart.options.get("autoRecomputation") != 0
    return PipelineEngine(
        tree,
        executable,
        micro_batch,
        plan,
        layout,
        world,
        schedule="1f1b" if settings.schedule == "auto" else settings.schedule,
        overlap=overlap,
        recompute=recompute,
        update=update,
    )


def _fill(ticks: Ticks, plan: Plan, returned: int) -> None:
    """One entry per micro-batch of all replicas, from those of this rank's steps."""
    steps = len(ticks.input)
    for name in ("input", "input_complete"):
        values = getattr(ticks, name)
        setattr(
            ticks,
            name,
            [values[i * steps // plan.micro_batches] for i in range(plan.micro_batches)],
        )
    count = min(returned, plan.replicas) if plan.mode == OutputMode.Sum else returned
    ticks.output = ticks.output * count
    ticks.output_complete = [time.perf_counter()] * count


def _refuse_loss(name: str) -> NoReturn:
    raise createPoptorchError(
        f"The loss ({name}) depends on no parameter that requires a gradient: all are frozen, or"
        " the path to them is cut by detach(), no_grad or an operator without derivative"
    )
