"""A fixed number of positives and negatives, drawn by numbers that are a function of keys.

B images, N candidates, S samples. No shape depends on data, and no random state exists: the same
key draws the same samples on any device, in any stage, at any position of a batch. All operators
are on PopTorch's list, which has no shift: see `shift_right`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detectors.matching import NEGATIVE, POSITIVE
from poplar_ops import topk_select

__all__ = ["Samples", "draw_samples", "hash_integers", "random_numbers"]

FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)  # the finaliser "lowbias32", as int32


class Samples(NamedTuple):
    """S candidates of each image, positives first; where fewer are to be had, `valid` is False."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """(B, S) int32, rows of the candidates; some row where not valid."""
    positive: Tensor
    """(B, S) bool; valid as well."""
    valid: Tensor
    """(B, S) bool."""


def shift_right(x: Tensor, bits: int) -> Tensor:
    """int32 >> bits with zeros moved in, for bits >= 8: what stays fits a float32 exactly."""
    kept = x - torch.bitwise_and(x, 2**bits - 1)
    return torch.bitwise_and((kept.float() * 2.0**-bits).int(), 2 ** (32 - bits) - 1)


def hash_integers(x: Tensor) -> Tensor:
    """Scatter integers over the whole range of int32, one to one.

    Args:
        x: int32, any shape.

    Returns:
        int32, the same shape.
    """
    x = torch.bitwise_xor(x, shift_right(x, 16)) * FACTORS[0]  # integers wrap, as on the IPU
    x = torch.bitwise_xor(x, shift_right(x, 15)) * FACTORS[1]
    return torch.bitwise_xor(x, shift_right(x, 16))


def random_numbers(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform numbers for each key.

    Args:
        keys: (B,) integers, of which 32 bits count.
        count: N.
        stream: number of the use: two streams of one key have nothing in common.

    Returns:
        (B, N) float32, multiples of 2**-24 in 0 <= x < 1.
    """
    base = hash_integers(hash_integers(keys.int()) + stream)
    place = torch.arange(count, dtype=torch.int32, device=keys.device)
    mixed = hash_integers(hash_integers(place) + base[:, None])  # (B, N)
    return shift_right(mixed, 8).float() * 2.0**-24


def draw_samples(state: Tensor, numbers: Tensor, count: int, max_positives: int) -> Samples:
    """Up to `max_positives` positives, then negatives up to `count` in all.

    Args:
        state: (B, N) of `Matches`.
        numbers: (B, N) of `random_numbers`; the largest are drawn.
        count: S; may exceed N.
        max_positives: at most `count`.

    Returns:
        Samples.
    """
    num_candidates = state.shape[1]
    lost = torch.full_like(numbers, -1.0)
    positives = topk_select(
        torch.where(state == POSITIVE, numbers, lost), min(max_positives, num_candidates)
    )
    negatives = topk_select(
        torch.where(state == NEGATIVE, numbers, lost), min(count, num_candidates)
    )
    num_positives = (positives.values >= 0).int().sum(dim=1, keepdim=True).int()  # (B, 1)
    num_negatives = (negatives.values >= 0).int().sum(dim=1, keepdim=True).int()
    place = torch.arange(count, dtype=torch.int32, device=state.device)  # (S,)
    positive = place < num_positives  # (B, S)
    index = torch.where(
        positive,
        take(positives.indices, place.expand(state.shape[0], count)),
        take(negatives.indices, place - num_positives),
    )
    return Samples(index, positive, place < num_positives + num_negatives)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Columns of (B, K) by (B, S) numbers, which are moved into 0..K-1."""
    return values.gather(1, index.clamp(0, values.shape[1] - 1).long())
