"""Mixed precision around a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detectors.experiment.autocast import Autocast


def test_nothing_is_cast_but_on_cuda() -> None:
    linear = nn.Linear(2, 3)
    x = torch.rand(4, 2)
    for device in ("cpu", "ipu"):
        assert torch.equal(Autocast(linear, device)(x), linear(x))


def test_names_of_parameters_are_those_of_every_device() -> None:
    names = [
        [name for name, _ in Autocast(nn.Linear(2, 3), device).named_parameters()]
        for device in ("cpu", "cuda", "ipu")
    ]
    assert names[0] == names[1] == names[2] == ["module.weight", "module.bias"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_products_are_bfloat16_on_cuda() -> None:
    wrapped = Autocast(nn.Linear(2, 3), "cuda").cuda()
    assert wrapped(torch.rand(4, 2, device="cuda")).dtype is torch.bfloat16
    assert wrapped.module.weight.dtype is torch.float32
