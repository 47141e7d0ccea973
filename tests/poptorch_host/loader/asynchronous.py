"""Datasets for tests of loaders with a process of their own: it imports them from here."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

import poptorch_host as poptorch

offset = 0


class Numbers(Dataset[Tuple[torch.Tensor]]):
    """0, 1, ... as one-tensor tuples; `loaded` counts what was asked for, seen by all processes."""

    def __init__(self, count: int) -> None:
        self.loaded = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tuple[torch.Tensor]:
        self.loaded += 1
        return (torch.tensor(index + offset),)


class Broken(Numbers):
    """Has a sample that cannot be read."""

    def __getitem__(self, index: int) -> Tuple[torch.Tensor]:
        if index == 3:
            raise ValueError(f"sample {index} is broken")
        return super().__getitem__(index)


class Threads(Dataset[torch.Tensor]):
    """How many threads torch uses where it is read, and with which seed."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([torch.get_num_threads(), torch.initial_seed()])


class Shares(IterableDataset):  # type: ignore[type-arg]  # of ints
    """0 to 10, shared out among the workers."""

    def __len__(self) -> int:
        return 11

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        return iter(range(11) if worker is None else range(worker.id, 11, worker.num_workers))


class Point(NamedTuple):
    """Two tensors with names."""

    x: torch.Tensor
    y: torch.Tensor


class Pair:
    """A type nobody knows without a parser."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        self.left, self.right = left, right


class PairParser(poptorch.ICustomArgParser):
    """Takes a pair apart."""

    def yieldTensors(self, struct: Pair) -> Iterator[torch.Tensor]:
        yield struct.left
        yield struct.right

    def reconstruct(
        self, original_structure: Pair, tensor_iterator: Iterator[torch.Tensor]
    ) -> Pair:
        return Pair(next(tensor_iterator), next(tensor_iterator))


def set_offset(worker: int) -> None:
    """A `worker_init_fn`: the numbers begin at 100."""
    global offset
    offset = 100 * (worker + 1)


def reordered(samples: List[Tuple[torch.Tensor]]) -> Dict[str, Any]:
    """A `collate_fn` whose dicts have their items in a different order each time."""
    numbers = torch.stack([sample[0] for sample in samples])
    items = [("a", numbers), ("b", -numbers)]
    return dict(items if numbers[0] % 4 == 0 else reversed(items))
