"""1.8: `AsynchronousDataAccessor` hands over any structure of tensors, in order, without loss."""

from __future__ import annotations

import collections
import time
from typing import Any, Callable, Iterator, List

import pytest
import torch
from torch.utils.data import TensorDataset

import poptorch_host as poptorch
from poptorch_host import AsynchronousDataAccessor
from tests.poptorch_host.loader.asynchronous import (
    Broken,
    Numbers,
    Pair,
    PairParser,
    Point,
    Threads,
)


def values(accessor: AsynchronousDataAccessor) -> List[int]:
    return [int(element[0]) for element in accessor]


@pytest.fixture
def parsed() -> Iterator[None]:
    poptorch.registerCustomArgParser(Pair, PairParser())
    yield
    poptorch.registerCustomArgParser(Pair, None)


# ---- 1.8: elements -------------------------------------------------------------------------------


def test_structures_come_back_with_their_types() -> None:
    one, two = torch.arange(3.0), torch.tensor([True, False])
    element = {
        "tensor": one.half(),
        "list": [one.to(torch.bfloat16), (two,)],
        "point": Point(one.to(torch.int8), torch.tensor(7)),
        "ordered": collections.OrderedDict(empty=torch.empty(0, 2), complex=one + 1j),
    }
    (got,) = list(AsynchronousDataAccessor([element]))
    assert list(got) == list(element)
    kinds = [type(got["list"]), type(got["list"][1]), type(got["point"]), type(got["ordered"])]
    assert kinds == [list, tuple, Point, collections.OrderedDict]
    pairs: Any = [
        (got["tensor"], one.half()),
        (got["list"][0], one.to(torch.bfloat16)),
        (got["list"][1][0], two),
        (got["point"].x, one.to(torch.int8)),
        (got["point"].y, torch.tensor(7)),
        (got["ordered"]["empty"], torch.empty(0, 2)),
        (got["ordered"]["complex"], one + 1j),
    ]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("parsed")
def test_types_with_a_parser_are_elements() -> None:
    data = [Pair(torch.tensor([i]), torch.tensor([i, -i])) for i in range(4)]
    got = list(AsynchronousDataAccessor(data))
    assert all(isinstance(pair, Pair) for pair in got)
    assert [pair.right.tolist() for pair in got] == [[0, 0], [1, -1], [2, -2], [3, -3]]


def test_a_map_style_dataset_is_read_by_index() -> None:
    accessor = AsynchronousDataAccessor(Numbers(5))  # whose __getitem__ never says IndexError
    assert len(accessor) == 5
    assert [values(accessor) for _ in range(2)] == 2 * [[0, 1, 2, 3, 4]]


def test_a_dataset_of_very_many_tensors_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    # A forkserver passes at most 256 descriptors, and each shared tensor is one.
    data = [torch.tensor([i]) for i in range(300)]
    assert values(AsynchronousDataAccessor(data)) == list(range(300))
    assert "too many tensors to share" in caplog.text


@pytest.mark.parametrize("buffer_size", [1, 2, 7])
def test_elements_are_the_callers_own(buffer_size: int) -> None:
    # 7.10: in PopTorch the first would be overwritten.
    accessor = AsynchronousDataAccessor(Numbers(5), buffer_size=buffer_size)
    kept = list(accessor)
    assert [int(element[0]) for element in kept] == [0, 1, 2, 3, 4]


def test_strict_elements_are_views_that_the_next_one_overwrites(
    configure: Callable[..., object],
) -> None:
    configure(loader_buffers="reused")
    accessor = AsynchronousDataAccessor(Numbers(3), buffer_size=1)
    elements = iter(accessor)
    first = next(elements)[0]
    assert int(first) == 0
    assert next(elements)[0].data_ptr() == first.data_ptr()
    assert int(first) == 1
    assert [int(element[0].clone()) for element in accessor] == [0, 1, 2]


# ---- 1.8: rebatching -----------------------------------------------------------------------------


def test_elements_are_joined_and_cut() -> None:
    data = [torch.arange(3) + 3 * i for i in range(4)]  # 12 samples by threes
    accessor = AsynchronousDataAccessor(data, rebatched_size=5)
    assert len(accessor) == 2
    for _ in range(2):
        assert [e.tolist() for e in accessor] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_one_element_may_fill_the_ring_many_times() -> None:
    accessor = AsynchronousDataAccessor([torch.arange(20)], rebatched_size=2, buffer_size=2)
    assert [e.tolist() for e in accessor] == [[i, i + 1] for i in range(0, 20, 2)]
    elements = iter(accessor)
    next(elements)
    assert next(iter(accessor)).tolist() == [0, 1]  # begun again in the middle of that element


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_loader_is_rebatched(drop_last: bool) -> None:
    data = TensorDataset(torch.arange(7))
    loader = poptorch.DataLoader(poptorch.Options(), data, batch_size=2, drop_last=drop_last)
    accessor = AsynchronousDataAccessor(loader, rebatched_size=4)
    expected = [[0, 1, 2, 3]] if drop_last else [[0, 1, 2, 3], [4, 5, 6]]
    assert [batch[0].tolist() for batch in accessor] == expected
    assert len(accessor) == len(expected)


def test_the_length_is_the_loaders() -> None:
    loader = poptorch.DataLoader(poptorch.Options(), Numbers(7), batch_size=2)
    assert len(AsynchronousDataAccessor(loader)) == len(loader) == 3


def test_sizes_that_cannot_be_are_refused() -> None:
    loader = poptorch.DataLoader(poptorch.Options(), Numbers(7), batch_size=2, drop_last=False)
    with pytest.raises(AssertionError, match=r"drop_last=False .* needs rebatched_size"):
        AsynchronousDataAccessor(loader)
    with pytest.raises(AssertionError, match="rebatched_size must be None or greater than 1"):
        AsynchronousDataAccessor(Numbers(7), rebatched_size=1)
    with pytest.raises(AssertionError, match="buffer_size must be positive, got 0"):
        AsynchronousDataAccessor(Numbers(7), buffer_size=0)
    with pytest.raises(AssertionError, match="miss_sleep_time_in_ms must not be negative"):
        AsynchronousDataAccessor(Numbers(7), miss_sleep_time_in_ms=-1)


# ---- 1.8: what is loaded when --------------------------------------------------------------------


def test_one_element_is_loaded_before_an_iteration_is_asked_for() -> None:
    data = Numbers(4)
    AsynchronousDataAccessor(data).terminate()
    assert int(data.loaded) == 1


def eventually(data: Numbers, loaded: int) -> bool:
    """Whether that many samples are loaded; given up after a minute."""
    end = time.monotonic() + 60
    while int(data.loaded) < loaded and time.monotonic() < end:
        time.sleep(0.01)
    return int(data.loaded) == loaded


def test_early_preload_fills_the_ring_at_once() -> None:
    data = Numbers(9)
    accessor = AsynchronousDataAccessor(data, early_preload=True, buffer_size=3)
    assert eventually(data, 3)
    assert values(accessor) == list(range(9))


def test_the_next_iteration_is_loaded_at_the_end_of_one() -> None:
    data = Numbers(4)
    accessor = AsynchronousDataAccessor(data, buffer_size=2)
    assert values(accessor) == [0, 1, 2, 3]
    assert eventually(data, 4 + 2)
    accessor.terminate()


def test_it_is_not_loaded_unless_indefinitely() -> None:
    data = Numbers(4)
    accessor = AsynchronousDataAccessor(data, buffer_size=2, load_indefinitely=False)
    assert values(accessor) == [0, 1, 2, 3]
    assert next(accessor, None) is None  # at its end until an iteration begins
    assert values(accessor) == [0, 1, 2, 3]
    accessor.terminate()
    assert int(data.loaded) == 8


@pytest.mark.parametrize("indefinitely", [True, False])
def test_an_iteration_given_up_begins_again(indefinitely: bool) -> None:
    accessor = AsynchronousDataAccessor(Numbers(6), load_indefinitely=indefinitely)
    for taken in (1, 3, 6):
        elements = iter(accessor)
        assert [int(next(elements)[0]) for _ in range(taken)] == list(range(taken))
    iter(accessor)
    iter(accessor)  # nothing was taken, nothing begins again
    assert values(accessor) == list(range(6))


def test_nothing_comes_before_an_iteration_begins() -> None:
    accessor = AsynchronousDataAccessor(Numbers(2))
    with pytest.raises(StopIteration):
        next(accessor)


# ---- 1.8: the process ----------------------------------------------------------------------------


def test_the_process_uses_one_thread_and_a_seed_drawn_from_torchs() -> None:
    def seed() -> int:
        torch.manual_seed(4)
        threads, seed = next(iter(AsynchronousDataAccessor(Threads()))).tolist()
        assert threads == 1
        return int(seed)

    assert seed() == seed() != 4


def test_errors_of_the_dataset_end_the_iteration() -> None:
    accessor = AsynchronousDataAccessor(Broken(5))
    elements = iter(accessor)
    assert [int(next(elements)[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(AssertionError, match="An error occurred in the data fetcher") as caught:
        next(elements)
    assert "ValueError: sample 3 is broken" in str(caught.value)
    with pytest.raises(AssertionError, match="An error occurred in the data fetcher"):
        next(accessor)


FAILED = r"AsynchronousDataAccessor worker thread failed to start \(Check above for details\).*{}"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "the dataset is empty"),
        ([(torch.ones(1), 3)], "3 of type int in an element is not a torch tensor"),
        ([()], "an element without tensors"),
        ([Pair(torch.ones(1), torch.ones(1))], "of type Pair in an element"),  # has no parser here
    ],
)
def test_a_process_that_cannot_load_says_why(
    data: List[Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(poptorch.Error, match=FAILED.format(words)):
        AsynchronousDataAccessor(data)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("second", "size", "words"),
    [
        (torch.zeros(3), None, r"shape \(3,\) .* the first element's has \(2,\)"),
        (torch.zeros(2).half(), None, "torch.float16, the first element's .* torch.float32"),
        ([torch.zeros(2), torch.zeros(2)], None, "an element has 2 tensors, the first one has 1"),
        (torch.zeros(2, 1), 4, r"shape \(2, 1\)"),
    ],
)
def test_all_elements_are_alike(second: Any, size: Any, words: str) -> None:
    accessor = AsynchronousDataAccessor([torch.zeros(2), second], rebatched_size=size)
    with pytest.raises(AssertionError, match=f"(?s)An error occurred in the data fetcher.*{words}"):
        list(accessor)


def test_scalars_cannot_be_joined() -> None:
    with pytest.raises(poptorch.Error, match="the dataset yields a 0-d tensor"):
        AsynchronousDataAccessor([torch.tensor(1)], rebatched_size=2)
