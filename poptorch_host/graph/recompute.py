"""Activations computed once more on the way back instead of being kept.

A segment is a function of its inputs that changes none of them, so running it again has no effect
but its results; random numbers are those of the first time.
"""

from __future__ import annotations

from typing import Callable, List, Sequence

import torch
from torch.utils.checkpoint import checkpoint

from .. import _state

Segment = Callable[..., Sequence[torch.Tensor]]


def run_keeping_inputs(
    segment: Segment, inputs: List[torch.Tensor], *, random: bool
) -> Sequence[torch.Tensor]:
    """Run a segment so that autograd keeps its inputs only.

    Args:
        random: it draws random numbers.
    """
    seed, ran = _state.seed(), [False]

    def run(*tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        if not ran[0]:
            ran[0] = True
            return segment(*tensors)
        with _state.recomputing(seed):
            return segment(*tensors)

    results: Sequence[torch.Tensor] = checkpoint(
        run, *inputs, use_reentrant=False, preserve_rng_state=random
    )
    return results
