"""`serializedMatMul` is a matrix product that checks how it would be split (1.6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import poptorch_host as poptorch

Mode = poptorch.MatMulSerializationMode
X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
W = torch.arange(12.0).view(3, 4)
FACTORS = [(Mode.InputChannels, 2), (Mode.ReducingDim, 3), (Mode.OutputChannels, 4)]


@pytest.mark.parametrize(("mode", "factor"), [*FACTORS, (Mode.Disabled, 5), (Mode.ReducingDim, 0)])
@pytest.mark.parametrize("keep_precision", [False, True])
def test_the_result_is_matmul_in_every_mode(mode: Any, factor: int, keep_precision: bool) -> None:
    result = poptorch.serializedMatMul(X, W, mode, factor, keep_precision)
    torch.testing.assert_close(result, X @ W)


@pytest.mark.parametrize(("mode", "factor"), FACTORS)
def test_the_factor_must_divide_the_dimension_of_the_mode(mode: Any, factor: int) -> None:
    with pytest.raises(poptorch.Error, match="factor 5 must divide"):
        poptorch.serializedMatMul(X, W, mode, 5)


def test_half_products_are_summed_in_float() -> None:
    class Product(torch.nn.Module):
        def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return poptorch.serializedMatMul(x, w, Mode.ReducingDim, 64, keep_precision=True)

    x, w = torch.ones(1, 4096).half(), torch.ones(4096, 1).half()
    result = poptorch.inferenceModel(Product())(x, w)
    assert (result.dtype, result.item()) == (torch.float16, 4096.0)  # sums in half stop at 2048


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("input_channels", 2), "MatMulSerializationMode"),
        ((Mode.ReducingDim, 1.5), "factor to be an int"),
        ((Mode.ReducingDim, 1, "yes"), "keep_precision to be a bool"),
    ],
)
def test_arguments_of_other_types_are_assertion_errors(arguments: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        poptorch.serializedMatMul(X, W, *arguments)


def test_gradients_are_those_of_matmul() -> None:
    x = X.clone().requires_grad_()
    poptorch.serializedMatMul(x, W, Mode.InputChannels, 2).sum().backward()  # type: ignore[no-untyped-call]  # torch
    torch.testing.assert_close(x.grad, W.sum(1).expand(2, 3))
