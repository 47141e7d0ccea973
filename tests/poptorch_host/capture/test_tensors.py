"""Capture refuses on a laptop what the IPU refuses: sizes and dtypes (2.9), assignments.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch
from tests.poptorch_host.capture.refusal import Wrap, refused


def assign(x: Tensor) -> Tensor:
    x = x.clone()
    x[x > 0.5] = 0.0
    return x


def test_assigning_a_scalar_through_a_mask_is_allowed(wrap: Wrap) -> None:
    x = torch.tensor([0.2, 0.7, 0.9, 0.4])
    torch.testing.assert_close(wrap(assign)(x), torch.tensor([0.2, 0.0, 0.0, 0.4]))


def test_assigning_to_every_second_element_is_refused(wrap: Wrap) -> None:
    def assign_strided(x: Tensor) -> Tensor:
        x = x.clone()
        x[::2] = x[1::2]
        return x

    with pytest.raises(poptorch.Error, match="step other than 1"):
        wrap(assign_strided).compile(torch.rand(4))


def test_adding_through_a_mask_is_refused(wrap: Wrap) -> None:
    def add(x: Tensor) -> Tensor:
        x = x.clone()
        x[x > 0.5] += 1
        return x

    with pytest.raises(poptorch.Error, match="boolean mask"):
        wrap(add).compile(torch.rand(4))


def test_tensors_without_elements_are_refused(wrap: Wrap) -> None:
    message = r"Zero-sized tensors are unsupported \(Got shape \[0, 4\]\)"
    with pytest.raises(poptorch.Error, match=message):
        wrap(lambda x: x[:0]).compile(torch.rand(2, 4))
    with pytest.raises(poptorch.Error, match=message):
        wrap(lambda x: x).compile(torch.rand(0, 4))


def test_complex_numbers_are_refused(wrap: Wrap) -> None:
    refused(wrap, lambda x: torch.complex(x, x), "Unsupported data type torch.complex64")
    with pytest.raises(poptorch.Error, match=r"Unsupported data type torch.complex64"):
        wrap(lambda x: x).compile(torch.zeros(2, dtype=torch.complex64))
