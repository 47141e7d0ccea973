"""Sampling: counts, shortages, and randomness that is a function of keys."""

from __future__ import annotations

from typing import List, Tuple

import pytest
import torch
from torch import Tensor

from detectors.matching import IGNORE, NEGATIVE, POSITIVE
from detectors.sampling import Samples, draw_samples, hash_integers, random_numbers, shift_right


def state_of(positives: int, negatives: int, ignored: int = 0) -> Tensor:
    values = [POSITIVE] * positives + [NEGATIVE] * negatives + [IGNORE] * ignored
    return torch.tensor([values], dtype=torch.int32)


def draw(state: Tensor, count: int, max_positives: int, key: int = 1) -> Samples:
    keys = torch.full((len(state),), key, dtype=torch.int32)
    return draw_samples(state, random_numbers(keys, state.shape[1]), count, max_positives)


def counts(samples: Samples) -> List[Tuple[int, int]]:
    positives = samples.positive.sum(dim=1).tolist()
    valid = samples.valid.sum(dim=1).tolist()
    return [(p, v - p) for p, v in zip(positives, valid)]


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (50, 200, (8, 24)),  # enough of both
        (3, 200, (3, 29)),  # background fills up
        (0, 200, (0, 32)),  # no object: an image without boxes
        (50, 5, (8, 5)),  # objects do not fill up
        (2, 5, (2, 5)),  # fewer than asked for
        (0, 0, (0, 0)),  # nothing at all
    ],
)
def test_counts(positives: int, negatives: int, expected: Tuple[int, int]) -> None:
    state = state_of(positives, negatives, ignored=300)
    samples = draw(state, 32, 8)
    assert samples.index.shape == (1, 32)
    assert counts(samples) == [expected]


@pytest.mark.parametrize(("positives", "negatives"), [(50, 200), (3, 40), (2, 5)])
def test_samples_are_distinct_and_of_the_kind_they_say(positives: int, negatives: int) -> None:
    state = state_of(positives, negatives, ignored=10)
    index, positive, valid = draw(state, 32, 8)
    drawn = index[valid]
    assert len(set(drawn.tolist())) == len(drawn)
    found = state[0][drawn.long()]
    assert torch.equal(found == POSITIVE, positive[valid])
    assert torch.equal(found == NEGATIVE, ~positive[valid])


def test_fewer_candidates_than_samples_are_padded() -> None:
    samples = draw(state_of(1, 2), 8, 4)
    assert samples.index.shape == (1, 8)
    assert counts(samples) == [(1, 2)]
    assert sorted(samples.index[samples.valid].tolist()) == [0, 1, 2]


def test_samples_depend_on_the_key_alone() -> None:
    state = state_of(40, 200).expand(4, -1)
    keys = torch.tensor([7, -9, 123456, 7], dtype=torch.int32)
    together = draw_samples(state, random_numbers(keys, 240), 32, 8).index
    assert torch.equal(together[0], together[3])
    assert not torch.equal(together[0], together[1])
    for place, key in enumerate(keys):
        alone = draw_samples(state[:1], random_numbers(key[None], 240), 32, 8).index[0]
        assert torch.equal(alone, together[place])


def test_numbers_are_uniform_and_streams_unrelated() -> None:
    keys = torch.arange(64, dtype=torch.int32)  # neighbours, the hardest keys
    a, b = random_numbers(keys, 1000), random_numbers(keys, 1000, stream=1)
    assert float(a.min()) >= 0
    assert float(a.max()) < 1
    assert abs(float(a.mean()) - 0.5) < 0.005  # standard error 0.0011
    assert abs(float(a.var()) - 1 / 12) < 0.002
    for other in (b, a.roll(1, 0), a.roll(1, 1)):  # streams, neighbouring keys, places
        r = torch.corrcoef(torch.stack([a.flatten(), other.flatten()]))[0, 1]
        assert abs(float(r)) < 0.02  # standard error 0.004


def test_every_candidate_is_drawn_equally_often() -> None:
    keys = torch.arange(4000, dtype=torch.int32)
    state = state_of(0, 20).expand(4000, -1)
    index = draw_samples(state, random_numbers(keys, 20), 5, 2).index
    times = torch.bincount(index.flatten().long(), minlength=20)
    assert float((times - 1000).abs().max()) < 5 * 27.4  # binomial: sqrt(4000 / 4 * 3 / 4)


def test_hash_is_one_to_one_and_bit_exact() -> None:
    def reference(x: int) -> int:
        x %= 2**32
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        x ^= x >> 16
        return x - 2**32 if x >= 2**31 else x

    values = [0, 1, 2, -1, 65535, 65536, 2**31 - 1, -(2**31), 123456789, -987654321]
    found = hash_integers(torch.tensor(values, dtype=torch.int32))
    assert found.tolist() == [reference(value) for value in values]
    many = hash_integers(torch.arange(-20000, 20000, dtype=torch.int32))
    assert len(set(many.tolist())) == 40000


@pytest.mark.parametrize("bits", [8, 15, 16])
def test_shift_without_a_shift_operator(bits: int) -> None:
    x = torch.tensor([0, 1, -1, 255, -256, 2**31 - 1, -(2**31), 123456789], dtype=torch.int32)
    assert shift_right(x, bits).tolist() == [value % 2**32 >> bits for value in x.tolist()]
