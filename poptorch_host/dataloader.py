"""`poptorch.DataLoader`: batches as large as one call of an executor consumes.

N samples, P processes, C combined batch = batch_size * DI * (R / G) * GA.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Optional, Sized, Union

import torch
import torch.utils.data

from ._logging import logger
from .checks import check_options_type, createPoptorchError, micro_batches_per_call
from .enums import DataLoaderMode
from .options import Options


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
        mode: only `DataLoaderMode.Sync` so far.
        async_options, rebatched_worker_size: of the asynchronous modes; not read in `Sync`.
        batch_sampler: yields micro-batches of indices; they are joined to batches of C.
        kwargs: everything else that a torch DataLoader takes.

    Raises:
        poptorch.Error: arguments that exclude each other.
        NotImplementedError: an asynchronous mode.
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
        check_options_type(options)
        options._freeze()
        micro_batches = micro_batches_per_call(options, training=True)
        iterable = isinstance(dataset, torch.utils.data.IterableDataset)
        partitioned = auto_distributed_partitioning and options.Distributed.numProcesses > 1
        self._options = options
        self._combined_batch_size = None if batch_size is None else batch_size * micro_batches
        if persistent_workers is None:
            persistent_workers = num_workers > 0

        if batch_sampler is not None:
            self._check_batch_sampler(batch_size, shuffle, partitioned)
            inner = getattr(batch_sampler, "batch_size", None)
            self._combined_batch_size = None if inner is None else inner * micro_batches
            kwargs["batch_sampler"] = _JoinedBatches(batch_sampler, micro_batches, drop_last)
        elif batch_size is None:
            assert not partitioned, (
                "batch_size=None not allowed when using auto_distributed_partitioning."
            )
            kwargs.update(batch_size=None, shuffle=bool(shuffle))
        else:
            kwargs.update(batch_size=self._combined_batch_size, drop_last=drop_last)
            if iterable:
                assert not partitioned, (
                    "auto_distributed_partitioning not supported for IterableDataset"
                )
            elif partitioned:
                self._check_partition(options, shuffle, kwargs.get("sampler"))
                kwargs["sampler"] = _PartitionSampler(
                    dataset, options, batch_size * micro_batches, bool(shuffle), drop_last
                )
            else:
                kwargs["shuffle"] = bool(shuffle)
        self._check_mode(mode, rebatched_worker_size)
        if iterable and num_workers > 0:
            logger.warning(
                "An IterableDataset with %d workers yields every sample once per worker, unless"
                " the dataset asks torch.utils.data.get_worker_info() which part is its own",
                num_workers,
            )
        if async_options is not None:
            logger.info("async_options are not read in DataLoaderMode.Sync")
        super().__init__(
            dataset, num_workers=num_workers, persistent_workers=persistent_workers, **kwargs
        )

    @property
    def combinedBatchSize(self) -> Optional[int]:
        """C, samples consumed by one call; None when the dataset makes the batches."""
        return self._combined_batch_size

    @property
    def options(self) -> Options:
        """The frozen options the batches were computed from."""
        return self._options

    def terminate(self) -> None:
        """Stop the workers; the next iteration starts new ones."""
        iterator = self._iterator  # torch keeps it for persistent workers only
        if iterator is not None and self.num_workers > 0:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the workers' iterator
        self._iterator = None

    @staticmethod
    def _check_batch_sampler(
        batch_size: Optional[int], shuffle: Optional[bool], partitioned: bool
    ) -> None:
        if batch_size != 1 or shuffle:
            raise createPoptorchError(
                "`batch_sampler` option is mutually exclusive with batch_size, shuffle."
            )
        if partitioned:
            raise createPoptorchError(
                "`batch_sampler` option is mutually exclusive with"
                " auto_distributed_partitioning=True."
            )

    @staticmethod
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

    def _check_mode(self, mode: DataLoaderMode, rebatched_worker_size: Optional[int]) -> None:
        assert isinstance(mode, DataLoaderMode), (
            f"mode must be a poptorch.DataLoaderMode, got {type(mode)}"
        )
        combined = self._combined_batch_size
        assert (
            rebatched_worker_size is None or combined is None or (rebatched_worker_size <= combined)
        ), (
            f"rebatched_worker_size ({rebatched_worker_size}) must not be larger than the combined"
            f" batch size ({combined})"
        )
        if mode is not DataLoaderMode.Sync:
            raise NotImplementedError(
                f"poptorch.DataLoader(mode={mode}) is not available in poptorch_host yet; use"
                " mode=poptorch.DataLoaderMode.Sync, with num_workers to load ahead"
            )


class AsynchronousDataAccessor:
    """Loads ahead in a process of its own; not on the host yet.

    Raises:
        NotImplementedError: always.
    """

    def __init__(self, dataset: object, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "poptorch.AsynchronousDataAccessor is not available in poptorch_host yet; iterate over"
            " a poptorch.DataLoader in Sync mode, with num_workers to load ahead"
        )


class _JoinedBatches:
    """A batch sampler that joins `count` micro-batches of another one."""

    def __init__(self, micro_batches: Iterable[List[int]], count: int, drop_last: bool) -> None:
        self._micro_batches = micro_batches
        self._count = count
        self._drop_last = drop_last

    def __iter__(self) -> Iterator[List[int]]:
        joined: List[int] = []
        waiting = 0
        for micro_batch in self._micro_batches:
            joined += micro_batch
            waiting += 1
            if waiting == self._count:
                yield joined
                joined, waiting = [], 0
        if joined and not self._drop_last:
            yield joined

    def __len__(self) -> int:
        assert isinstance(self._micro_batches, Sized)
        length = len(self._micro_batches)
        return length // self._count if self._drop_last else -(-length // self._count)


class _PartitionSampler(torch.utils.data.Sampler[int]):
    """The indices of one process: a contiguous part of the data, or of a common permutation.

    With drop_last all processes get `C * (N // (C * P))` samples. What is left over is at the end
    on even epochs and at the beginning on odd ones, so every sample is seen in two epochs. Without
    drop_last the first N % P processes get one sample more.
    """

    def __init__(
        self,
        dataset: Union[torch.utils.data.Dataset[Any], Sized],
        options: Options,
        combined_batch_size: int,
        shuffle: bool,
        drop_last: bool,
    ) -> None:
        assert isinstance(dataset, Sized), (
            "auto_distributed_partitioning needs a dataset with a length"
        )
        processes, process = options.Distributed.numProcesses, options.Distributed.processId
        self._samples = len(dataset)
        if drop_last:
            length = combined_batch_size * (self._samples // (combined_batch_size * processes))
            self._start, self._stop = process * length, (process + 1) * length
            self._left_over = self._samples - processes * length
        else:
            length, more = divmod(self._samples, processes)
            self._start = process * length + min(process, more)
            self._stop = self._start + length + (process < more)
            self._left_over = 0
        self._seed = options.random_seed if shuffle else None
        self._epoch = 0

    def __iter__(self) -> Iterator[int]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        shift = self._left_over if epoch % 2 else 0
        part = range(self._start + shift, self._stop + shift)
        if self._seed is None:
            return iter(part)
        generator = torch.Generator().manual_seed(self._seed + epoch)
        order: List[int] = torch.randperm(self._samples, generator=generator).tolist()
        return iter([order[i] for i in part])

    def __len__(self) -> int:
        return self._stop - self._start
