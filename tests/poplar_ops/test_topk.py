"""What top-k promises, on every implementation."""

from __future__ import annotations

from typing import Callable

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import plain, reference
from poplar_ops.topk import Selection, run_compiled

TopK = Callable[[Tensor, int], Selection]
NAN, INF = float("nan"), float("inf")


def test_topk_descends_and_says_columns(any_topk: TopK) -> None:
    values, indices = any_topk(torch.tensor([[1.0, 5, 3], [7, -2, 0]]), 2)
    assert values.tolist() == [[5, 3], [7, 0]]
    assert indices.tolist() == [[1, 2], [0, 2]]
    assert indices.dtype == torch.int32


def test_topk_breaks_ties_by_index(any_topk: TopK) -> None:
    assert any_topk(torch.tensor([[2.0, 3, 2, 3, 2]]), 4).indices.tolist() == [[1, 3, 0, 2]]


def test_topk_takes_both_zeros_as_a_tie(any_topk: TopK) -> None:
    # The bits of -0.0 sort below those of 0.0.
    values, indices = any_topk(torch.tensor([[-0.0, 0.0, -1.0, -0.0]]), 4)
    assert indices.tolist() == [[0, 1, 3, 2]]
    assert values.signbit().tolist() == [[True, False, True, True]]


def test_topk_ranks_nan_with_minus_infinity(any_topk: TopK) -> None:
    values, indices = any_topk(torch.tensor([[NAN, -INF, 1.0, NAN, INF]]), 5)
    assert indices.tolist() == [[4, 2, 0, 1, 3]]
    assert values.isnan().tolist() == [[False, False, True, False, True]]


@pytest.mark.parametrize("k", [1, 300, 30_000, 60_000])
@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "sparse", "ascending", "nan"])
def test_topk_equals_a_stable_sort(kind: str, k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(2, 60_000, generator=generator)
    x = {
        "normal": x,
        "ties": x.half().float(),
        "constant": torch.full_like(x, 0.25),
        "sparse": (x - 3).relu(),  # about a hundred values above a sea of zeros
        "ascending": x.sort(dim=1).values,
        "nan": x.masked_fill(x < 1, NAN),
    }[kind]
    expected = reference.topk_select(x, k)
    for implementation in (poplar_ops.topk_select, plain.topk_select):
        values, indices = implementation(x, k)
        assert torch.equal(indices, expected[1])
        assert torch.equal(values.nan_to_num(7.0), expected[0].nan_to_num(7.0))


def test_every_instruction_set_selects_the_same(simd_level: str) -> None:
    x = torch.randn(2, 50_001, generator=torch.Generator().manual_seed(1))  # not whole blocks
    values, indices = run_compiled(x, 500)
    assert torch.equal(indices, reference.topk_select(x, 500)[1])
    assert torch.equal(values, x.gather(1, indices.long()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_topk_keeps_the_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(2)).to(dtype)
    values, indices = poplar_ops.topk_select(x, 20)
    assert values.dtype == dtype
    assert torch.equal(values, x.gather(1, indices.long()))
    assert torch.equal(indices, reference.topk_select(x.float(), 20)[1])


def test_topk_takes_views_that_are_not_contiguous() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(3)).t()
    expected = reference.topk_select(x.contiguous(), 5)
    assert torch.equal(poplar_ops.topk_select(x, 5).indices, expected[1])


@pytest.mark.parametrize(
    ("x", "k", "error", "message"),
    [
        (torch.zeros(3), 1, ValueError, r"x must be \(B, N\), got \(3,\)"),
        (torch.zeros(2, 3), 4, ValueError, "k must be from 1 to N = 3, got 4"),
        (torch.zeros(2, 3), 0, ValueError, "k must be from 1 to N = 3, got 0"),
        (torch.zeros(2, 3, dtype=torch.int64), 1, TypeError, "x must be float32.*int64"),
    ],
)
def test_topk_says_what_does_not_fit(
    x: Tensor, k: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        poplar_ops.topk_select(x, k)
