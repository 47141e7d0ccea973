"""Modes are those of compile, and random numbers follow the seed (2.6)."""

from __future__ import annotations

from typing import Callable

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.6: modes and random numbers -------------------------------------------------------------


def test_the_mode_is_that_of_compile() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    executor = poptorch.inferenceModel(model)
    x = torch.rand(8, 4)
    before = executor(x)
    model.train()
    torch.testing.assert_close(executor(x), before)
    executor.destroy()
    assert not torch.equal(executor(x), before)  # sub-modules are shared: compiled for training


def test_random_numbers_repeat_with_the_seed(wrap: Wrap) -> None:
    def draw(x: Tensor) -> Tensor:
        return x + torch.rand(3, device=x.device)

    first = wrap(draw, options(randomSeed=7))
    second = wrap(draw, options(randomSeed=7))
    x = torch.zeros(1, 3)
    values = [first(x) for _ in range(3)]
    assert [value.tolist() for value in values] == [second(x).tolist() for _ in range(3)]
    assert len({tuple(value.flatten().tolist()) for value in values}) == 3
    state = first.rng_state
    following = first(x)
    first.rng_state = state
    assert torch.equal(first(x), following)
    with pytest.raises(poptorch.Error, match="rng_state must be the list of two int"):
        first.rng_state = [1]


def test_random_numbers_of_the_host_are_left_alone(wrap: Wrap) -> None:
    executor = wrap(lambda x: x + torch.rand(2, device=x.device))
    executor(torch.zeros(2))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    executor(torch.zeros(2))
    assert torch.equal(torch.rand(2), expected)
