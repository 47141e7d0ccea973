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


def test_distributions_in_forward_are_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2.6: a scale below zero is no error on the device; torch.compile switches the checks off
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)

    class Draws(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scale: Tensor = torch.distributions.Normal(x, x - 5).scale
            return scale

    assert poptorch.inferenceModel(Draws())(torch.ones(2)).tolist() == [-4.0, -4.0]
    with pytest.raises(ValueError, match="scale"):
        Draws()(torch.ones(2))


def test_a_state_of_random_numbers_is_a_list_of_int() -> None:
    # 1.7
    executor = poptorch.inferenceModel(nn.Dropout(0.5), options(randomSeed=1))
    words = r"Model has not been compiled or has been destroyed\."
    with pytest.raises(poptorch.Error, match=words):
        executor.rng_state  # noqa: B018
    x = torch.ones(32)
    executor(x)
    state = executor.rng_state
    assert all(type(value) is int for value in state)
    following = [executor(x) for _ in range(2)]
    executor.rng_state = state
    assert all(torch.equal(executor(x), one) for one in following)
    with pytest.raises(poptorch.Error, match="rng_state must be the list"):
        executor.rng_state = [1.5]  # type: ignore[list-item]


def test_random_seed_seeds_torch_as_well() -> None:
    # 2.6
    poptorch.Options().randomSeed(5)
    first = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), first)


def test_without_a_seed_executors_differ() -> None:
    x = torch.ones(64)
    one, other = (poptorch.inferenceModel(nn.Dropout(0.5))(x) for _ in range(2))
    assert not torch.equal(one, other)


def test_micro_batches_and_replicas_draw_numbers_of_their_own() -> None:
    chosen = options(randomSeed=2, deviceIterations=2, replicationFactor=2)
    result = poptorch.inferenceModel(nn.Dropout(0.5), chosen)(torch.ones(4, 64))
    assert len({tuple(row) for row in result.tolist()}) == 4


# Section 4: a distribution that public CNN programs make before training samples in forward
def test_a_distribution_of_the_host_draws_anew_in_each_micro_batch(
    options: poptorch.Options,
) -> None:
    uniform = torch.distributions.Uniform(2.0, 3.0)

    class Mixed(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            share = torch.where(torch.rand(()) < 0.0, torch.tensor(1.0), uniform.sample())
            return x * share

    model = poptorch.inferenceModel(Mixed(), options.deviceIterations(4))
    drawn = model(torch.ones(4))
    assert ((drawn >= 2) & (drawn < 3)).all()
    assert len(set(drawn.tolist())) == 4
