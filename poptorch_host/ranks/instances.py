"""Instances: processes that each run the whole model on batches of their own and learn together."""

from __future__ import annotations

from typing import Dict, List

import torch

from ..errors import createPoptorchError
from ..options import Options
from ..settings import Settings
from . import exchange, ranks


class Instances:
    """What the instances of a training run do together; P of them."""

    def __init__(self, options: Options, settings: Settings) -> None:
        """Meet the others.

        Args:
            options: `Distributed` says which process of how many this is.

        Raises:
            poptorch.Error: no launcher, or one that started other processes than the options say.
        """
        distributed = options.Distributed
        self._world = ranks.join(settings, distributed.processId, distributed.numProcesses)
        told = distributed.processId, distributed.numProcesses
        if told != (self._world.rank, self._world.size):
            raise createPoptorchError(
                f"options.Distributed says process {told[0]} of {told[1]}, but the launcher started"
                f" this one as {self._world.rank} of {self._world.size}: use"
                " options.Distributed.configureProcessId with the numbers of the launcher, or"
                " options.Distributed.disable() for stages on ranks"
            )

    def add_others(self, gradients: Dict[str, torch.Tensor]) -> int:
        """Add the gradients of all instances, in place; returns their number."""
        exchange.add_up(self._world.everyone, list(gradients.values()))
        return self._world.size

    def same_weights(self, weights: Dict[str, torch.Tensor]) -> None:
        """Give all instances the host weights of the first, by name."""
        names = sorted(weights)
        mine = [weights[name] for name in names]
        first = self._world.rank == 0
        values = exchange.share_alike(self._world, 0, mine if first else None, mine)
        with torch.inference_mode(False), torch.no_grad():
            for name, value in zip(names, values):
                if not first:
                    weights[name].copy_(value)

    def same_numbers(self, values: List[int]) -> List[int]:
        """The integers of the first instance."""
        return exchange.from_rank_zero(self._world, values)
