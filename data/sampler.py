"""The order of training pictures as a function of (seed, epoch, step).

A draw is one picture in one epoch, as the number epoch * length + index: an integer, so that any
DataLoader can carry it to any worker, and all that is random about the picture follows from it.
"""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpochSampler", "Order", "StepSampler", "shared_out"]


class Order:
    """Every epoch's order.

    Args:
        length: pictures.
        seed: of the order.
        shuffle: else every epoch goes 0, 1, 2, ...
    """

    def __init__(self, length: int, seed: int, *, shuffle: bool = True) -> None:
        if length < 1:
            raise ValueError("there is no picture to train on")
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.cached: Tuple[int, NDArray[np.int64]] = (-1, np.arange(0))
        self.places: Tuple[int, NDArray[np.int64]] = (-1, np.arange(0))

    def epoch(self, number: int) -> NDArray[np.int64]:
        """(length,) indices in the order of an epoch."""
        if self.cached[0] != number:
            indices = np.arange(self.length)
            if self.shuffle:
                indices = np.random.default_rng((self.seed, number)).permutation(self.length)
            self.cached = (number, indices)
        return self.cached[1]

    def draw(self, position: int) -> int:
        """The draw at a place of the endless row of epochs."""
        epoch, place = divmod(position, self.length)
        return epoch * self.length + int(self.epoch(epoch)[place])

    def position(self, draw: int) -> int:
        """The place of a draw in the endless row of epochs; the inverse of `draw`."""
        epoch, index = divmod(draw, self.length)
        if self.places[0] != epoch:
            self.places = (epoch, np.argsort(self.epoch(epoch)))
        return epoch * self.length + int(self.places[1][index])


class StepSampler:
    """Draws of a training run from one step to another, batch by batch.

    Epochs follow each other without a gap: no picture is left out because a batch was full. The
    pictures of a step do not depend on the number of replicas, each of which gets its share.

    Args:
        order: of the pictures.
        images_per_step: of all replicas together.
        steps: of the whole run.
        start: step to begin at: what a resumed run passes.
        replica: (which, of how many).

    Raises:
        ValueError: `images_per_step` cannot be shared evenly.
    """

    def __init__(
        self,
        order: Order,
        images_per_step: int,
        steps: int,
        *,
        start: int = 0,
        replica: Tuple[int, int] = (0, 1),
    ) -> None:
        if images_per_step % replica[1]:
            raise ValueError(
                f"{images_per_step} images per step cannot be shared by {replica[1]} replicas"
            )
        self.order = order
        self.images_per_step = images_per_step
        self.steps = steps
        self.start = start
        self.replica = replica

    def draws(self, step: int) -> List[int]:
        """This replica's draws of a step."""
        share = self.images_per_step // self.replica[1]
        first = step * self.images_per_step + self.replica[0] * share
        return [self.order.draw(position) for position in range(first, first + share)]

    def indices(self, step: int) -> List[int]:
        """The pictures of a step on this replica: what an error names."""
        return [draw % self.order.length for draw in self.draws(step)]

    def __iter__(self) -> Iterator[int]:
        for step in range(self.start, self.steps):
            yield from self.draws(step)

    def __len__(self) -> int:
        """Draws of the whole run, those before `start` too: Lightning knows how many batches lie
        behind a resumed run, and takes the length for those and the rest together.
        """
        return self.steps * (self.images_per_step // self.replica[1])


class EpochSampler:
    """Draws of one epoch, of the same order; for a loop that counts epochs itself.

    Args:
        order: of the pictures.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.number = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.number = epoch

    def __iter__(self) -> Iterator[int]:
        first = self.number * self.order.length
        return iter([first + int(index) for index in self.order.epoch(self.number)])

    def __len__(self) -> int:
        return self.order.length


def shared_out(length: int, share: Tuple[int, int]) -> Sequence[int]:
    """The indices that one of several processes goes through; all have equally many, so the last
    may begin anew.

    Args:
        length: of the dataset.
        share: (which, of how many).
    """
    which, of = share
    return [(which + of * turn) % length for turn in range(-(-length // of))]
