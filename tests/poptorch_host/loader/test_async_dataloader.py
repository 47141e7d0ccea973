"""1.8: loaders with a process that reads ahead yield what a loader without one does."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler

import poptorch_host as poptorch
from poptorch_host import DataLoaderMode, SharingStrategy
from tests.poptorch_host.loader.asynchronous import Numbers, Shares, reordered, set_offset

ASYNC, REBATCHED, SYNC = (
    DataLoaderMode.Async,
    DataLoaderMode.AsyncRebatched,
    DataLoaderMode.Sync,
)


def make(mode: DataLoaderMode, count: int = 11, **changes: Any) -> poptorch.DataLoader:
    """C = 4: two device iterations of two samples."""
    options = changes.pop("options", None) or poptorch.Options().deviceIterations(2)
    changes.setdefault("dataset", Numbers(count))
    return poptorch.DataLoader(options, mode=mode, **{"batch_size": 2, **changes})


def seen(loader: poptorch.DataLoader) -> List[List[int]]:
    return [(batch if torch.is_tensor(batch) else batch[0]).tolist() for batch in loader]


@pytest.mark.parametrize("strategy", SharingStrategy)
# Python >= 3.12 says this of every fork beside torch's own threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_every_sharing_strategy_yields_the_same_in_every_epoch(strategy: SharingStrategy) -> None:
    loader = make(ASYNC, async_options={"sharing_strategy": strategy})
    assert len(loader) == 2
    assert [seen(loader) for _ in range(3)] == 3 * [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    loader.terminate()


@pytest.mark.parametrize("mode", [SYNC, ASYNC, REBATCHED])
@pytest.mark.parametrize("drop_last", [True, False])
def test_modes_agree_on_batches_and_length(mode: DataLoaderMode, drop_last: bool) -> None:
    # Async becomes rebatched without drop_last, as a smaller last batch has no slot of its own.
    loader = make(mode, drop_last=drop_last)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]][: 2 if drop_last else 3]
    assert (len(loader), seen(loader), seen(loader)) == (len(expected), expected, expected)
    assert loader.combinedBatchSize == 4


@pytest.mark.parametrize("size", [1, 3, 4])
def test_rebatching_uses_every_whole_batch_whatever_is_fetched_at_a_time(size: int) -> None:
    # floor(11 / 4) * 4 = 8 samples are used.
    loader = make(REBATCHED, rebatched_worker_size=size)
    assert loader.batch_size == size
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_rebatching_drops_less_of_an_iterable_dataset_with_workers() -> None:
    # Two workers have 6 and 5 samples; each alone fills one batch of 4.
    by_worker = make(ASYNC, dataset=Shares(), num_workers=2)
    joined = make(REBATCHED, dataset=Shares(), num_workers=2)
    rest = make(REBATCHED, dataset=Shares(), num_workers=2, drop_last=False)
    assert [len(batches) for batches in (seen(by_worker), seen(joined))] == [2, 2]
    assert sorted(sample for batch in seen(rest) for sample in batch) == list(range(11))
    assert (len(joined), len(rest)) == (2, 3)
    for loader in (by_worker, joined, rest):
        loader.terminate()


def test_a_dataset_that_makes_the_batches_has_nothing_to_rebatch() -> None:
    data = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    for mode in (ASYNC, REBATCHED):
        loader = make(mode, dataset=data, batch_size=None)
        assert (len(loader), seen(loader)) == (2, [[0, 1], [2, 3]])


@pytest.mark.parametrize("mode", [ASYNC, REBATCHED])
def test_micro_batches_of_a_batch_sampler_are_joined(mode: DataLoaderMode) -> None:
    for drop_last, expected in ((True, [[0, 1, 2, 3]]), (False, [[0, 1, 2, 3], [4, 5]])):
        sampler = BatchSampler(SequentialSampler(range(6)), batch_size=2, drop_last=False)
        loader = make(mode, 6, batch_size=1, batch_sampler=sampler, drop_last=drop_last)
        assert (len(loader), seen(loader)) == (len(expected), expected)


@pytest.mark.parametrize("mode", [ASYNC, REBATCHED])
@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_get_the_parts_they_get_in_sync(mode: DataLoaderMode, shuffle: bool) -> None:
    def epochs(mode: DataLoaderMode, process: int) -> List[List[List[int]]]:
        options = poptorch.Options().randomSeed(3)
        options.Distributed.configureProcessId(process, 2)
        loader = make(mode, options=options, shuffle=shuffle)
        return [seen(loader) for _ in range(3)]

    for process in (0, 1):
        assert epochs(mode, process) == epochs(SYNC, process)


def test_shuffled_orders_follow_the_seed_and_change_each_epoch() -> None:
    def epochs() -> List[List[List[int]]]:
        loader = make(ASYNC, 32, options=poptorch.Options().randomSeed(5), shuffle=True)
        return [seen(loader) for _ in range(2)]

    first, second = epochs()
    assert sorted(sample for batch in first for sample in batch) == list(range(32))
    assert first != second
    assert [first, second] == epochs()


def test_worker_init_fn_and_collate_fn_pass_through() -> None:
    loader = make(ASYNC, 8, num_workers=1, worker_init_fn=set_offset, collate_fn=reordered)
    # The second batch's dict has its items the other way round; keys decide, not places.
    assert [{key: value.tolist() for key, value in batch.items()} for batch in loader] == [
        {"a": [100, 101, 102, 103], "b": [-100, -101, -102, -103]},
        {"a": [104, 105, 106, 107], "b": [-104, -105, -106, -107]},
    ]
    loader.terminate()


def test_a_loader_has_one_accessor_only() -> None:
    loader = make(ASYNC)
    with pytest.raises(
        poptorch.Error, match="The DataLoader already uses an AsynchronousDataAccessor internally"
    ):
        poptorch.AsynchronousDataAccessor(loader)
    loader.terminate()
    loader.terminate()  # twice is once
    with pytest.raises(AssertionError, match="was terminated"):
        iter(loader)


def test_options_of_the_accessor_pass_by_name() -> None:
    options = {"load_indefinitely": False, "early_preload": True, "buffer_size": 1}
    loader = make(ASYNC, async_options={**options, "miss_sleep_time_in_ms": 0})
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(TypeError, match="buffers"):
        make(ASYNC, async_options={"buffers": 1})


def test_async_options_are_not_read_in_sync(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="poptorch::python")
    assert len(make(SYNC, async_options={"buffer_size": 2})) == 2
    assert "async_options are not read" in caplog.text


def test_batches_go_into_an_executor() -> None:
    loader = make(REBATCHED, 8)
    model = poptorch.inferenceModel(torch.nn.Identity(), loader.options)
    assert [model(batch[0]).tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]
