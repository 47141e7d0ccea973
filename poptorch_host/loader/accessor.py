"""`poptorch.AsynchronousDataAccessor`: elements of a dataset, loaded ahead by a process."""

from __future__ import annotations

import tempfile
from typing import Any, Iterable, Optional, Sized, Union

import torch
import torch.multiprocessing as multiprocessing
import torch.utils.data

from .. import settings
from .._logging import logger
from ..enums import SharingStrategy
from ..errors import createPoptorchError
from ..tensors.structure import registered_parsers
from . import fetcher
from .data_worker import DataWorker, in_a_file


class AsynchronousDataAccessor:
    """Iterates over a dataset or loader that a worker process reads ahead.

    The process fills a ring of elements in shared memory. An element is a tensor, or a list,
    tuple, dict or type with a registered parser made of tensors; shapes and dtypes are those of
    the first element. What is yielded belongs to the caller, unless
    `host.configure(loader_buffers="reused")` asks for PopTorch's own behaviour: views of the ring,
    which the next element may overwrite.

    One iteration runs at a time: `iter()` in the middle of one begins it again.

    Args:
        dataset: anything iterable; a map-style dataset is read by index. It is pickled, except
            with `SharingStrategy.Fork`.
        buffer_size: elements of the ring.
        miss_sleep_time_in_ms: accepted; the process sleeps until an element of the ring is free.
        load_indefinitely: go on with the next iteration at the end of one, before it is asked for.
        early_preload: fill the ring at once; otherwise only one element before the first `iter()`.
        sharing_strategy: how the process starts and gets the dataset.
        rebatched_size: samples per element: elements of the dataset are joined and cut along their
            first dimension. What is left at the end is dropped, except that of a
            `poptorch.DataLoader(drop_last=False)`.

    Raises:
        poptorch.Error: `dataset` is an asynchronous loader, or the process cannot load.
        AssertionError: `rebatched_size` is needed, or less than 2.
    """

    def __init__(
        self,
        dataset: Union[Iterable[Any], torch.utils.data.Dataset[Any]],
        buffer_size: int = 3,
        miss_sleep_time_in_ms: float = 0.1,
        load_indefinitely: bool = True,
        early_preload: bool = False,
        sharing_strategy: SharingStrategy = SharingStrategy.ForkServer,
        rebatched_size: Optional[int] = None,
    ) -> None:
        self._worker: Optional[DataWorker] = None
        self._dataset = dataset
        self.rebatched_size = rebatched_size
        keep_last = _keeps_last(dataset, rebatched_size)
        assert rebatched_size is None or rebatched_size > 1, (
            f"rebatched_size must be None or greater than 1, got {rebatched_size}"
        )
        assert buffer_size > 0, f"buffer_size must be positive, got {buffer_size}"
        assert miss_sleep_time_in_ms >= 0, (
            f"miss_sleep_time_in_ms must not be negative, got {miss_sleep_time_in_ms}"
        )
        self._keep_last = keep_last
        job = fetcher.Job(
            dataset=dataset,
            in_file=False,
            slots=buffer_size,
            rebatched_size=rebatched_size,
            keep_last=keep_last,
            load_indefinitely=load_indefinitely,
            early_preload=early_preload,
            seed=int(torch.empty((), dtype=torch.int64).random_()),  # drawn as a torch loader does
            log_level=logger.level,
            parsers=registered_parsers(),
            start_method=multiprocessing.get_start_method(),
        )
        self._worker = _start(job, SharingStrategy(sharing_strategy))

    def terminate(self) -> None:
        """Stop the process. It also stops when nothing refers to this object, and at exit."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def __len__(self) -> int:
        """Elements of one iteration."""
        assert isinstance(self._dataset, Sized)
        length: int = len(self._dataset)
        if self.rebatched_size is None:
            return length
        samples: int = length * self._running().piece_size
        if isinstance(self._dataset, torch.utils.data.DataLoader) and self._dataset.batch_size:
            samples = _samples_of(self._dataset)
        whole, rest = divmod(samples, self.rebatched_size)
        return whole + (self._keep_last and rest > 0)

    def __iter__(self) -> AsynchronousDataAccessor:
        self._running().begin()
        return self

    def __next__(self) -> Any:
        return self._running().take(views=settings.current().loader_buffers == "reused")

    def _running(self) -> DataWorker:
        assert self._worker is not None, (
            "This AsynchronousDataAccessor was terminated: make a new one (a poptorch.DataLoader"
            " makes its own)"
        )
        return self._worker


def _keeps_last(dataset: object, rebatched_size: Optional[int]) -> bool:
    """Whether a last, smaller element is yielded; refuses loaders that cannot be wrapped."""
    from .dataloader import DataLoader

    if not isinstance(dataset, DataLoader):
        return False
    if dataset._accessor is not None:
        raise createPoptorchError(
            "The DataLoader already uses an AsynchronousDataAccessor internally: iterate over it,"
            " or make it with mode=poptorch.DataLoaderMode.Sync"
        )
    keeps = not dataset._drop_last
    assert not keeps or rebatched_size is not None or dataset.combinedBatchSize in (None, 1), (
        "A poptorch.DataLoader with drop_last=False may end with a smaller batch: an"
        " AsynchronousDataAccessor over it needs rebatched_size"
    )
    return keeps


def _samples_of(loader: torch.utils.data.DataLoader[Any]) -> int:
    """How many samples one iteration over a loader sees."""
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return len(loader.dataset)  # type: ignore[arg-type]  # torch's own assumption
    if loader.drop_last and loader.batch_size:
        return len(loader) * loader.batch_size
    assert isinstance(loader.sampler, Sized)
    return len(loader.sampler)


def _start(job: fetcher.Job, strategy: SharingStrategy) -> DataWorker:
    if strategy != SharingStrategy.FileSystem:
        try:
            return DataWorker(job, strategy)
        except ValueError as error:  # a forkserver takes 256 descriptors, one for each tensor
            if "too many fds" not in str(error):
                raise
            logger.warning(
                "The dataset has too many tensors to share one by one: the worker process reads it"
                " from a file, as with SharingStrategy.FileSystem"
            )
    with tempfile.TemporaryDirectory(prefix="poptorch-") as folder:
        in_a_file(job, folder)
        return DataWorker(job, strategy)
