"""One call of a compiled model: its micro-batches through the engine, and their results merged."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

import torch

from ..engine.engine import Engine
from ..engine.timing import Ticks
from ..enums import OutputMode
from ..errors import createPoptorchError
from ..executable.executable import Executable
from ..tensors import microbatch
from ..tensors.microbatch import Plan
from ..tensors.structure import flatten, rebuild

Block = List[torch.Tensor]
"""The outputs of one micro-batch."""


def run_blocks(
    executable: Executable,
    engine: Engine,
    plan: Plan,
    tensors: List[torch.Tensor],
    given: List[torch.Tensor],
    next_seed: Callable[[], Optional[int]],
    ticks: Ticks,
) -> List[Block]:
    """Run every micro-batch of a call.

    Args:
        tensors: the call's inputs, contiguous and without gradient.
        given: the same inputs as the caller has them; those that forward changes are written back.
        next_seed: called once per micro-batch, None if it draws no random numbers.
        ticks: gets the times.

    Returns:
        outputs of the micro-batches that are returned.
    """
    program, sizes = executable.program, executable.sizes
    seeds = [next_seed() for _ in range(plan.micro_batches)]
    kept: Dict[int, Block] = {}
    changed: List[Tuple[torch.Tensor, torch.Tensor]] = []  # replicas of a group share an input
    for index in microbatch.order(plan):
        ticks.input.append(time.perf_counter())
        block = microbatch.block_of_input(index, plan)
        # Detached: what forward does to a tensor's shape or flags stays away from the caller's.
        inputs = [
            engine.layout.place(microbatch.input_block(tensor, block, size)).detach()
            for tensor, size in zip(tensors, sizes)
        ]
        written = {position: inputs[position].clone() for position in program.written_inputs}
        for position, values in written.items():
            inputs[position] = values.detach()
        ticks.input_complete.append(time.perf_counter())
        outputs = engine.run(index, inputs, seeds[index])
        if microbatch.returned(index, plan):
            ticks.output.append(time.perf_counter())
            kept[index] = outputs
            ticks.output_complete.append(time.perf_counter())
        for position, values in written.items():
            target = microbatch.input_block(given[position], block, sizes[position])
            changed.append((target.detach(), values))
    for target, values in changed:
        target.copy_(values)
    if plan.mode == OutputMode.Sum:  # one result per replica
        del ticks.output[: -plan.replicas], ticks.output_complete[: -plan.replicas]
    return [kept[index] for index in sorted(kept)]


def zero_blocks(executable: Executable, plan: Plan) -> List[Block]:
    """What synthetic data gives: zeros for every micro-batch that is returned."""
    shapes = flatten(executable.program.outputs)
    zeros = [torch.zeros(shape.shape, dtype=shape.dtype) for shape in shapes]
    return [zeros for index in range(plan.micro_batches) if microbatch.returned(index, plan)]


def merge_blocks(executable: Executable, blocks: List[Block], plan: Plan) -> Any:
    """The result of a call, in the structure that forward returned at capture."""
    program = executable.program
    merged = []
    for position in range(len(flatten(program.outputs))):
        result = program.constants.get(position)
        if result is None:
            result = microbatch.merge([block[position] for block in blocks], plan)
            result.backward = _refuse_backward  # type: ignore[method-assign]
        merged.append(result)
    return rebuild(program.outputs, iter(merged))


def _refuse_backward(*args: Any, **kwargs: Any) -> NoReturn:
    raise createPoptorchError(
        "backward() cannot be called explicitly on outputs of a PopTorch model. If you're using a"
        " trainingModel, the backwards pass is performed automatically when invoking the model."
    )
