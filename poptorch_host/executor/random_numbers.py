"""Which random numbers a compiled model draws next."""

from __future__ import annotations

import random
from typing import List, Optional

from ..engine.engine import seed_of
from ..errors import createPoptorchError
from .compiled import Compiled


class RandomNumbers(Compiled):
    """The part of `PoplarExecutor` that seeds each micro-batch."""

    _rng: List[int]
    """Seed, and micro-batches run so far."""

    @property
    def rng_state(self) -> List[int]:
        """[seed, micro-batches run so far]: what random numbers come next."""
        self._running_engine()
        return list(self._rng)

    @rng_state.setter
    def rng_state(self, state: List[int]) -> None:
        if len(state) != 2 or not all(isinstance(value, int) for value in state):
            raise createPoptorchError(
                f"rng_state must be the list of two int that rng_state returned, got {state!r}"
            )
        self._rng = list(state)

    def _first_seed(self) -> int:
        if self._options.exists("random_seed"):
            return int(self._options.random_seed)
        return random.SystemRandom().getrandbits(63)

    def _next_seed(self) -> Optional[int]:
        assert self._executable is not None
        if not self._executable.program.uses_random:
            return None
        seed, count = self._rng
        self._rng[1] += 1
        # Instances count as one process with all their replicas would.
        instances, replicas = self._options.Distributed, self._options.replication_factor
        step, replica = divmod(count, replicas)
        step = step * instances.numProcesses + instances.processId
        return seed_of(seed, step * replicas + replica)
