"""Images from a dataset into batches for the model, read one step ahead in another thread.

Pillow decodes without holding Python's lock, so reading and the network overlap even on a CPU.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Deque, Iterator, List, Protocol, Sequence, Union

import torch
from torch import Tensor

from data.collate import Placement
from data.fitting import Fit, fit_sample
from data.reading import UnreadableImageError
from data.sample import Sample

__all__ = [
    "NOTHING",
    "Dataset",
    "ImageBatch",
    "PrepareOne",
    "Prepared",
    "Unreadable",
    "batches",
    "prepare",
]


class Dataset(Protocol):
    """Samples by index; `__getitem__` raises UnreadableImageError for a broken file."""

    names: List[str]
    """Of the images, readable or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Prepared:
    """One image, ready for the model."""

    index: int
    """In the dataset."""
    image: Tensor
    """(3, H, W) uint8, fitted."""
    placement: Placement
    """Where it lies in there."""
    sample: Sample
    """As it is on disk, for the drawing."""
    read: float
    """Seconds it took to read."""
    preprocess: float
    """Seconds it took to fit."""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read."""

    index: int
    """In the dataset."""
    reason: str
    """For people."""


@dataclass(frozen=True)
class ImageBatch:
    """Up to a fixed number of images."""

    images: Tensor
    """(B, 3, H, W) uint8."""
    items: List[Prepared]
    """B of them."""
    unreadable: List[Unreadable]
    """What was skipped on the way to them."""


NOTHING = ImageBatch(torch.zeros(0, 3, 1, 1), [], [])
"""What comes after the last batch."""

PrepareOne = Callable[[int], Union[Prepared, Unreadable]]
"""From a dataset's index to an image that is ready for the model."""


def prepare(dataset: Dataset, fit: Fit) -> PrepareOne:
    """A function from a dataset's index to a prepared image, timed."""

    def prepare_one(index: int) -> Union[Prepared, Unreadable]:
        start = time.perf_counter()
        try:
            sample = dataset[index]
        except UnreadableImageError as error:
            return Unreadable(index, str(error))
        middle = time.perf_counter()
        placed = fit_sample(sample, fit)
        end = time.perf_counter()
        reading, fitting = middle - start, end - middle
        return Prepared(index, placed.image, placed.placement, sample, reading, fitting)

    return prepare_one


def batches(
    indices: Sequence[int],
    prepare_one: PrepareOne,
    size: int,
    *,
    read_ahead: bool = True,
) -> Iterator[ImageBatch]:
    """Batches of `size` images; the last may be shorter, and may have none but unreadable ones.

    At most `size` + 1 images wait, so memory does not grow with the number of images. Without
    `read_ahead` none does: nothing disturbs the measurement of the others.
    """
    items: List[Prepared] = []
    unreadable: List[Unreadable] = []
    for result in ahead(indices, prepare_one, size + 1 if read_ahead else 0):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            items.append(result)
        if len(items) == size:
            yield pack(items, unreadable)
            items, unreadable = [], []
    if items or unreadable:
        yield pack(items, unreadable)


def pack(items: List[Prepared], unreadable: List[Unreadable]) -> ImageBatch:
    images = torch.stack([item.image for item in items]) if items else NOTHING.images
    return ImageBatch(images, items, unreadable)


def ahead(
    indices: Sequence[int],
    prepare_one: PrepareOne,
    depth: int,
) -> Iterator[Union[Prepared, Unreadable]]:
    """`map` in one thread, at most `depth` results before their turn."""
    waiting: Deque[Future[Union[Prepared, Unreadable]]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
    try:
        for index in indices:
            waiting.append(pool.submit(prepare_one, index))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True)
