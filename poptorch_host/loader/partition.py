"""Which samples of a dataset each process of a distributed run loads.

N samples, P processes, C samples of one call of an executor.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Sized, Union

import torch
import torch.utils.data

from ..options import Options


class PartitionSampler(torch.utils.data.Sampler[int]):
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
