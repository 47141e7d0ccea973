"""The steps that are timed: ours as train.py runs it, and plain loops of torch.

Memory layout and malloc's thresholds are no part of a network: both are timed as they come, and
with channels-last memory and kept blocks, which trainingModel has on a host's CPU.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import torch
from torch import Tensor
from training_contenders import CONTENDERS, ClassNames, Contender
from training_loop import Loop

from data.collate import Batch
from detectors.experiment.optimizer import build_optimizer
from detectors.experiment.recipe import Recipe, poptorch_options
from poplar_ops.runtime import poptorch
from poptorch_host import host
from poptorch_host.engine.memory import keep_big_blocks

__all__ = ["loop_of"]


class Executor(Loop):
    """Ours through `poptorch.trainingModel`, with rates and averages of the plain loop."""

    def __init__(self, contender: Contender, recipe: Recipe, device: str) -> None:
        super().__init__(contender, recipe, "cpu")  # the executor has the device
        host.configure(device=device)
        options = poptorch_options(recipe)
        options.outputMode(poptorch.OutputMode.All)
        self.executor: Any = poptorch.trainingModel(self.training, options, self.optimizer)

    def build_optimizer(self) -> torch.optim.Optimizer:
        """PopTorch's, which clips and scales by itself."""
        return build_optimizer(self.training, self.recipe.optim, poptorch=True)

    def update(self, micro_batches: List[Batch]) -> Tensor:
        """One call; the losses of its micro-batches."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.executor.setOptimizer(self.optimizer)
        tensors = [torch.cat(parts) for parts in zip(*(one.tensors for one in micro_batches))]
        loss: Tensor = self.executor(*tensors)[0]
        self.step += 1
        if self.averages:
            self.executor.copyWeightsToHostIfNeeded()
        self.average()
        return loss


def channels_last(contender: Contender, recipe: Recipe, device: str) -> Loop:
    """A plain loop in the memory that trainingModel chooses."""
    keep_big_blocks()
    contender.training.to(memory_format=torch.channels_last)
    return Loop(contender, recipe, device)


KINDS: Dict[str, Callable[[Contender, Recipe, str], Loop]] = {
    "trainingModel": Executor,
    "": Loop,
    "channels-last": channels_last,
}


def loop_of(name: str, recipe: Recipe, class_names: ClassNames, device: str) -> Loop:
    """By a name of `training.TIMED`: a contender, and how its steps run."""
    contender, _, kind = name.partition(" ")
    return KINDS[kind](CONTENDERS[contender](recipe, class_names), recipe, device)
