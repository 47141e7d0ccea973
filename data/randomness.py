"""Random numbers of one picture in one epoch: the same in any process, on any replica, after any
resume.
"""

from __future__ import annotations

import numpy as np

__all__ = ["generator", "key_of"]

WORD = 0xFFFFFFFFFFFFFFFF


def generator(seed: int, epoch: int, index: int, *purpose: int) -> np.random.Generator:
    """For what the host draws.

    Args:
        seed, epoch, index: of the picture.
        purpose: numbers of a use that must not depend on what others draw.
    """
    return np.random.default_rng((seed, epoch, index, *purpose))


def key_of(seed: int, epoch: int, index: int) -> int:
    """For what the graph draws: 31 bits, a fixed hash of the three numbers.

    SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014) over each in turn.
    """
    state = 0
    for number in (seed, epoch, index):
        state = (state + number + 0x9E3779B97F4A7C15) & WORD
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
        state ^= state >> 31
    return state >> 33
