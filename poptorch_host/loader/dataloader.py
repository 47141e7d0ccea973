"""`poptorch.DataLoader`: batches as large as one call of an executor consumes.

N samples, P processes, C combined batch = batch_size * DI * (R / G) * GA.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional

import torch
import torch.utils.data

from .._logging import logger
from ..checks import check_options_type, micro_batches_per_call
from ..enums import DataLoaderMode
from ..errors import createPoptorchError
from ..options import Options
from .accessor import AsynchronousDataAccessor
from .joined_batches import JoinedBatches
from .partition import PartitionSampler


class DataLoader(torch.utils.data.DataLoader[Any]):
    """A torch DataLoader that yields C samples at a time and splits the data over processes.

    The options are frozen. With several processes (`options.Distributed`), a map-style dataset is
    cut into equal contiguous parts, one per process; what is left over trains on odd epochs.

    Args:
        batch_size: samples of one micro-batch; None when the dataset yields whole batches of C.
        shuffle: over several processes it needs `options.randomSeed`, and all draw the same order.
        drop_last: yield no batch smaller than C.
        persistent_workers: None means whenever there are workers.
        auto_distributed_partitioning: False leaves the split over processes to the caller.
        mode: Sync loads here; Async in a process that reads ahead; AsyncRebatched too, and that
            process makes the batches of C out of smaller ones: fewer samples are dropped where
            each worker of an iterable dataset has its own remainder. Async with
            `drop_last=False` is rebatched whenever C > 1.
        async_options: arguments of `AsynchronousDataAccessor`; not read in Sync.
        rebatched_worker_size: samples fetched at a time in AsyncRebatched; None is one.
        batch_sampler: yields micro-batches of indices; they are joined to batches of C.
        kwargs: everything else that a torch DataLoader takes.

    Raises:
        poptorch.Error: arguments that exclude each other; the process cannot load.
        AssertionError: sizes that do not fit together.
    """

    def __init__(
        self,
        options: Options,
        dataset: torch.utils.data.Dataset[Any],
        batch_size: Optional[int] = 1,
        shuffle: Optional[bool] = None,
        num_workers: int = 0,
        drop_last: bool = True,
        persistent_workers: Optional[bool] = None,
        auto_distributed_partitioning: bool = True,
        mode: DataLoaderMode = DataLoaderMode.Sync,
        async_options: Optional[Dict[str, Any]] = None,
        rebatched_worker_size: Optional[int] = None,
        batch_sampler: Optional[Iterable[List[int]]] = None,
        **kwargs: Any,
    ) -> None:
        self._accessor: Optional[AsynchronousDataAccessor] = None  # also if what follows raises
        check_options_type(options)
        options._freeze()
        micro_batches = micro_batches_per_call(options, training=True)
        iterable = isinstance(dataset, torch.utils.data.IterableDataset)
        partitioned = auto_distributed_partitioning and options.Distributed.numProcesses > 1
        self._options = options
        self._drop_last = drop_last
        if batch_sampler is not None:
            _check_batch_sampler(batch_size, shuffle, partitioned)
            batch_size = getattr(batch_sampler, "batch_size", None)
        elif batch_size is None:
            assert not partitioned, (
                "batch_size=None not allowed when using auto_distributed_partitioning."
            )
        combined = None if batch_size is None else batch_size * micro_batches
        self._combined_batch_size = combined
        plan = _fetching(mode, combined, drop_last, rebatched_worker_size)
        self._rebatched_size = plan.rebatched_size

        if batch_sampler is not None:
            assert rebatched_worker_size is None, (
                "rebatched_worker_size excludes batch_sampler, whose batches are what is fetched"
            )
            if mode is not DataLoaderMode.AsyncRebatched:
                batch_sampler = JoinedBatches(batch_sampler, micro_batches, drop_last)
            kwargs["batch_sampler"] = batch_sampler
        else:
            kwargs["batch_size"] = plan.fetched
            if plan.fetched is not None:
                kwargs["drop_last"] = plan.drop_last
            if iterable:
                assert not partitioned, (
                    "auto_distributed_partitioning not supported for IterableDataset"
                )
            if partitioned:
                _check_partition(options, shuffle, kwargs.get("sampler"))
                assert combined is not None
                kwargs["sampler"] = PartitionSampler(
                    dataset, options, combined, bool(shuffle), drop_last
                )
            elif not iterable or shuffle:  # torch says why an iterable dataset has no order to draw
                kwargs["shuffle"] = bool(shuffle)
        if iterable and num_workers > 0:
            _warn_of_repeated_samples(dataset, num_workers, kwargs.get("worker_init_fn"))
        super().__init__(
            dataset,
            num_workers=num_workers,
            persistent_workers=num_workers > 0
            if persistent_workers is None
            else persistent_workers,
            **kwargs,
        )
        if mode is not DataLoaderMode.Sync:
            self._load_ahead(async_options or {})
        elif async_options is not None:
            logger.info("async_options are not read in DataLoaderMode.Sync")

    @property
    def combinedBatchSize(self) -> Optional[int]:
        """C, samples consumed by one call; None when the dataset makes the batches."""
        return self._combined_batch_size

    @property
    def options(self) -> Options:
        """The frozen options the batches were computed from."""
        return self._options

    def terminate(self) -> None:
        """Stop the processes; also done at exit, and when nothing refers to the loader.

        In Sync the next iteration starts new workers; an asynchronous loader is at its end.
        """
        if self._accessor is not None:
            self._accessor.terminate()
        iterator = self._iterator  # torch keeps it for persistent workers only
        if iterator is not None and self.num_workers > 0:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the workers' iterator
        self._iterator = None

    def __len__(self) -> int:
        """Batches of one iteration."""
        if self._rebatched_size is None or isinstance(self.batch_sampler, JoinedBatches):
            return super().__len__()
        if self.batch_size is None:  # micro-batches of a batch sampler
            micro_batches = micro_batches_per_call(self._options, training=True)
            return len(JoinedBatches(self.batch_sampler or [], micro_batches, self._drop_last))
        iterable = isinstance(self.dataset, torch.utils.data.IterableDataset)
        counted = self.dataset if iterable else self.sampler
        samples = len(counted)  # type: ignore[arg-type]  # its TypeError says what has no length
        whole, rest = divmod(samples, self._rebatched_size)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own class
        return super().__iter__() if self._accessor is None else iter(self._accessor)

    def _load_ahead(self, async_options: Dict[str, Any]) -> None:
        assert "rebatched_size" not in async_options, (
            "rebatched_size in async_options is chosen by the DataLoader: leave it out, and use"
            " mode=poptorch.DataLoaderMode.AsyncRebatched to rebatch"
        )
        # The process iterates over a copy that loads by itself. It also keeps the accessor from
        # referring to this loader, so that the process stops as soon as the loader is forgotten.
        loading = copy.copy(self)
        self._accessor = AsynchronousDataAccessor(
            loading, **async_options, rebatched_size=self._rebatched_size
        )


class _Fetching(NamedTuple):
    """What torch's loader fetches at a time, and what the process makes of it."""

    fetched: Optional[int]
    drop_last: bool
    rebatched_size: Optional[int]


def _fetching(
    mode: DataLoaderMode, combined: Optional[int], drop_last: bool, worker_size: Optional[int]
) -> _Fetching:
    assert isinstance(mode, DataLoaderMode), (
        f"mode must be a poptorch.DataLoaderMode, got {type(mode)}"
    )
    assert worker_size is None or combined is None or worker_size <= combined, (
        f"rebatched_worker_size ({worker_size}) must not be larger than the combined batch size"
        f" ({combined})"
    )
    if mode is DataLoaderMode.AsyncRebatched:
        if combined is not None:
            return _Fetching(worker_size or 1, False, combined)
        logger.info("AsyncRebatched: the dataset makes the batches, there is nothing to rebatch")
    if mode is DataLoaderMode.Async and not drop_last and combined not in (None, 1):
        return _Fetching(combined, False, combined)
    return _Fetching(combined, drop_last, None)


def _check_batch_sampler(
    batch_size: Optional[int], shuffle: Optional[bool], partitioned: bool
) -> None:
    if batch_size != 1 or shuffle:
        raise createPoptorchError(
            "`batch_sampler` option is mutually exclusive with batch_size, shuffle."
        )
    if partitioned:
        raise createPoptorchError(
            "`batch_sampler` option is mutually exclusive with auto_distributed_partitioning=True."
        )


def _check_partition(options: Options, shuffle: Optional[bool], sampler: object) -> None:
    if sampler is not None:
        raise createPoptorchError(
            "`sampler` option is mutually exclusive with auto_distributed_partitioning=True:"
            " a sampler that knows the processes needs auto_distributed_partitioning=False."
        )
    assert not shuffle or options.exists("random_seed"), (
        "When using auto_distributed_partitioning you must set poptorch.Options.randomSeed()"
        " so that all processes draw the same order"
    )


def _warn_of_repeated_samples(dataset: object, num_workers: int, init: object) -> None:
    """Warn unless the samples are visibly shared out among the workers."""
    code = getattr(getattr(type(dataset), "__iter__", None), "__code__", None)
    if init is None and "get_worker_info" not in getattr(code, "co_names", ()):
        logger.warning(
            "An IterableDataset with %d workers yields every sample once per worker, unless"
            " the dataset asks torch.utils.data.get_worker_info() which part is its own",
            num_workers,
        )
