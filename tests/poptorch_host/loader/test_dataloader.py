"""The loader yields what one call consumes, and gives each process its part."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    get_worker_info,
)

import poptorch_host as poptorch


def numbers(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count))


def seen(loader: poptorch.DataLoader) -> List[List[int]]:
    return [batch[0].tolist() for batch in loader]


def joined(batches: List[List[int]]) -> List[int]:
    return [sample for batch in batches for sample in batch]


def process(process_id: int, processes: int, seed: int = 1) -> poptorch.Options:
    options = poptorch.Options().randomSeed(seed)
    options.Distributed.configureProcessId(process_id, processes)
    return options


class Counting(IterableDataset):  # type: ignore[type-arg]  # of ints
    """0, 1, 2."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class Sharing(Counting):
    """Gives each worker its own part."""

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        return iter(range(3) if worker is None else range(worker.id, 3, worker.num_workers))


# ---- 1.8: batches --------------------------------------------------------------------------------


def test_a_batch_is_what_one_call_consumes() -> None:
    options = poptorch.Options().deviceIterations(2).replicationFactor(4)
    options.inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive)
    options.Training.gradientAccumulation(3)
    loader = poptorch.DataLoader(options, numbers(80), batch_size=2)
    assert loader.combinedBatchSize == 2 * 2 * (4 // 2) * 3 == 24
    assert len(loader) == 3
    assert [len(batch) for batch in seen(loader)] == [24, 24, 24]  # drop_last is the default


def test_the_last_batch_stays_on_request() -> None:
    options = poptorch.Options().deviceIterations(2)
    loader = poptorch.DataLoader(options, numbers(5), batch_size=1, drop_last=False)
    assert seen(loader) == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3


def test_options_are_frozen() -> None:
    options = poptorch.Options()
    loader = poptorch.DataLoader(options, numbers(4))
    assert loader.options is options
    with pytest.raises(AttributeError, match="Can't modify frozen Options"):
        options.deviceIterations(2)


def test_a_dataset_may_make_the_batches() -> None:
    loader = poptorch.DataLoader(poptorch.Options(), numbers(3), batch_size=None)
    assert loader.combinedBatchSize is None
    assert seen(loader) == [0, 1, 2]  # type: ignore[comparison-overlap]  # items, not batches


def test_shuffle_draws_every_sample_once() -> None:
    torch.manual_seed(0)
    loader = poptorch.DataLoader(poptorch.Options(), numbers(32), batch_size=8, shuffle=True)
    order = joined(seen(loader))
    assert sorted(order) == list(range(32))
    assert order != list(range(32))


def test_torch_arguments_pass_by_keyword() -> None:
    # 7.16: as Lightning re-creates loaders.
    loader = poptorch.DataLoader(
        poptorch.Options(),
        numbers(4),
        batch_size=2,
        sampler=SequentialSampler(range(3, -1, -1)),
        collate_fn=lambda samples: [torch.stack([sample[0] for sample in samples]) * 10],
        pin_memory=False,
        timeout=0,
        worker_init_fn=None,
        generator=None,
    )
    assert seen(loader) == [[0, 10], [20, 30]]


def test_micro_batches_of_a_batch_sampler_are_joined() -> None:
    def make(drop_last: bool) -> poptorch.DataLoader:
        sampler = BatchSampler(SequentialSampler(range(10)), batch_size=2, drop_last=False)
        options = poptorch.Options().deviceIterations(2)
        return poptorch.DataLoader(options, numbers(10), batch_sampler=sampler, drop_last=drop_last)

    whole = make(drop_last=True)
    assert seen(whole) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (len(whole), whole.combinedBatchSize) == (2, 4)
    rest = make(drop_last=False)
    assert seen(rest) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(rest) == 3


# Python >= 3.12 says this of every fork beside torch's own threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_load_the_same_and_can_be_stopped() -> None:
    loader = poptorch.DataLoader(poptorch.Options(), numbers(4), batch_size=2, num_workers=1)
    assert loader.persistent_workers  # 1.8: None = whenever there are workers
    assert seen(loader) == [[0, 1], [2, 3]]
    loader.terminate()
    assert seen(loader) == [[0, 1], [2, 3]]
    loader.terminate()


# ---- 1.8: several processes ----------------------------------------------------------------------


def epochs(count: int, options: poptorch.Options, **changes: Any) -> List[List[List[int]]]:
    loader = poptorch.DataLoader(options, numbers(11), batch_size=2, **changes)
    return [seen(loader) for _ in range(count)]


def test_processes_get_contiguous_equal_parts_and_left_over_samples_on_odd_epochs() -> None:
    # N = 11, C = 2, P = 2: 2 * (11 // 4) = 4 samples each, 3 left over at alternate ends.
    assert epochs(3, process(0, 2)) == [[[0, 1], [2, 3]], [[3, 4], [5, 6]], [[0, 1], [2, 3]]]
    assert epochs(2, process(1, 2)) == [[[4, 5], [6, 7]], [[7, 8], [9, 10]]]


def test_without_drop_last_the_remainder_is_spread() -> None:
    assert epochs(1, process(0, 2), drop_last=False) == [[[0, 1], [2, 3], [4, 5]]]
    assert epochs(1, process(1, 2), drop_last=False) == [[[6, 7], [8, 9], [10]]]


def test_shuffled_processes_share_one_permutation_a_new_one_each_epoch() -> None:
    first, second = (epochs(2, process(i, 2, seed=5), shuffle=True) for i in (0, 1))
    for epoch in range(2):
        drawn = joined(first[epoch] + second[epoch])
        assert len(set(drawn)) == 8  # no sample twice
    assert first[0] != first[1]
    assert first == epochs(2, process(0, 2, seed=5), shuffle=True)


def test_partitioning_can_be_left_to_the_caller() -> None:
    (batches,) = epochs(1, process(1, 2), auto_distributed_partitioning=False)
    assert batches[0] == [0, 1]
    assert len(batches) == 5


# ---- 1.8: refusals -------------------------------------------------------------------------------


def unseeded() -> poptorch.Options:
    options = poptorch.Options()
    options.Distributed.configureProcessId(0, 2)
    return options


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (
            {"batch_sampler": [[0, 1]], "batch_size": 2},
            poptorch.Error,
            r"`batch_sampler` option is mutually exclusive with batch_size, shuffle\.",
        ),
        (
            {"batch_sampler": [[0, 1]], "shuffle": True},
            poptorch.Error,
            r"`batch_sampler` option is mutually exclusive with batch_size, shuffle\.",
        ),
        (
            {"batch_sampler": [[0, 1]], "options": process(0, 2)},
            poptorch.Error,
            r"mutually exclusive with auto_distributed_partitioning=True\.",
        ),
        (
            {"sampler": [0, 1], "options": process(0, 2)},
            poptorch.Error,
            r"`sampler` option is mutually exclusive",
        ),
        (
            {"batch_size": None, "options": process(0, 2)},
            AssertionError,
            r"batch_size=None not allowed when using auto_distributed_partitioning\.",
        ),
        (
            {"dataset": Counting(), "options": process(0, 2)},
            AssertionError,
            "auto_distributed_partitioning not supported for IterableDataset",
        ),
        (
            {"shuffle": True, "options": unseeded()},
            AssertionError,
            r"When using auto_distributed_partitioning you must set poptorch\.Options\.randomSeed",
        ),
        ({"options": {}}, poptorch.Error, "Invalid type: 'options' is of type"),
        (
            {"mode": poptorch.DataLoaderMode.AsyncRebatched, "rebatched_worker_size": 3},
            AssertionError,
            r"rebatched_worker_size \(3\) must not be larger than the combined batch size \(1\)",
        ),
        (
            {
                "mode": poptorch.DataLoaderMode.AsyncRebatched,
                "batch_size": 2,
                "async_options": {"rebatched_size": 2},
            },
            AssertionError,
            "rebatched_size in async_options",
        ),
        (
            {"mode": poptorch.DataLoaderMode.AsyncRebatched},
            AssertionError,
            "rebatched_size must be None or greater than 1, got 1",
        ),
        (
            {
                "mode": poptorch.DataLoaderMode.AsyncRebatched,
                "batch_sampler": [[0, 1]],
                "rebatched_worker_size": 1,
            },
            AssertionError,
            "rebatched_worker_size excludes batch_sampler",
        ),
        ({"mode": "Async"}, AssertionError, "mode must be a poptorch.DataLoaderMode"),
        (
            {"dataset": Counting(), "shuffle": True},
            ValueError,
            "IterableDataset: expected unspecified shuffle option",
        ),
    ],
)
def test_arguments_that_exclude_each_other(arguments: Any, kind: Any, words: str) -> None:
    given = {"options": poptorch.Options(), "dataset": numbers(4), **arguments}
    with pytest.raises(kind, match=words):
        poptorch.DataLoader(**given)


def test_workers_of_an_iterable_dataset_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    poptorch.DataLoader(poptorch.Options(), Counting(), num_workers=2)
    assert "get_worker_info" in caplog.text
    caplog.clear()
    poptorch.DataLoader(poptorch.Options(), Counting(), num_workers=2, worker_init_fn=print)
    poptorch.DataLoader(poptorch.Options(), Sharing(), num_workers=2)
    loader = poptorch.DataLoader(poptorch.Options(), Counting())
    assert [batch.tolist() for batch in loader] == [[0], [1], [2]]
    assert caplog.text == ""
