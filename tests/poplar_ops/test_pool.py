"""Memory of large results, used again: when it is, when not, and its bound."""

from __future__ import annotations

from typing import Iterator

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import pool


@pytest.fixture
def full_pool() -> Iterator[None]:
    """An empty pool with its usual limit, whatever the environment says."""
    before = pool.limit()
    pool.set_limit(0)
    pool.set_limit(pool.DEFAULT_MB << 20)
    yield
    pool.set_limit(before)


def large_result(value: float = 1.0) -> Tensor:
    """(1, 32, 192, 14, 14) of one value: 4.8 MB, more than the least that the pool serves."""
    features = torch.full((1, 192, 16, 16), value)
    return poplar_ops.roi_align(features, torch.tensor([[[2.0, 2, 9, 9]] * 32]), 14, 1.0, 1, True)


@pytest.mark.usefixtures("need_library", "full_pool")
def test_large_results_reuse_memory_that_nobody_holds() -> None:
    first = large_result(1.0)
    address, kept = first.data_ptr(), first[0, 0, 0]
    del first
    second = large_result(2.0)  # `kept` still holds the first block
    assert second.data_ptr() != address
    assert (kept == 1.0).all()
    del kept
    assert pool.held() > 0
    third = large_result(3.0)
    assert third.data_ptr() == address
    assert (second == 2.0).all()
    assert (third == 3.0).all()


@pytest.mark.usefixtures("need_library", "full_pool")
def test_pool_is_bounded_and_can_be_turned_off() -> None:
    size = large_result().numel() * 4
    size = -(-size // pool.PAGE) * pool.PAGE
    assert pool.held() == size
    pool.set_limit(2 * size)
    results = [large_result() for _ in range(4)]
    results.clear()
    assert pool.held() == 2 * size
    pool.set_limit(0)
    assert pool.held() == 0
    del results
    large_result()
    assert pool.held() == 0


def test_pool_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"DETECTORS_POOL_MB must be a whole number .* got '-1'"):
        pool.limit_in_bytes("-1")
    with pytest.raises(ValueError, match=r"limit must be 0 bytes \(off\) or more, got -5"):
        pool.set_limit(-5)


@pytest.mark.usefixtures("full_pool")
def test_pooled_results_take_part_in_gradients() -> None:
    features = torch.ones(1, 192, 16, 16, requires_grad=True)
    rois = torch.tensor([[[2.0, 2, 9, 9]] * 32])
    for _ in range(2):
        pooled = poplar_ops.roi_align(features, rois, 14, 1.0, 1, True)
        (grad,) = torch.autograd.grad((pooled.relu_() ** 2).sum(), features)
        assert float(grad.sum()) == pytest.approx(2 * 192 * 32 * 14 * 14, rel=1e-5)
