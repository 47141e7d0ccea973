"""Overlapped transfers are identities that a capture checks (1.6)."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch

MODE = poptorch.OverlapMode.OverlapDeviceIterationLoop
NONE = poptorch.OverlapMode.NoOverlap
X = torch.ones(2)
untyped: Any = poptorch  # for mistakes that mypy would find
Wrap = Callable[..., poptorch.PoplarExecutor]


def sharded(tiles: int = 32) -> poptorch.Options:
    options = poptorch.Options().setExecutionStrategy(poptorch.ShardedExecution())
    if tiles:
        options.TensorLocations.numIOTiles(tiles)
    return options


def take(x: Any, mode: poptorch.OverlapMode = MODE) -> Any:
    return poptorch.set_overlap_for_input(x, mode)


def give(y: Any, mode: poptorch.OverlapMode = MODE) -> Any:
    return poptorch.set_overlap_for_output(y, mode)


def test_outside_an_executor_both_are_identities() -> None:
    structure = (X, [X, None], {"a": X})
    assert take(structure) is structure
    assert give(structure) is structure


def test_modes_and_tensors_are_checked() -> None:
    for function in (untyped.set_overlap_for_input, untyped.set_overlap_for_output):
        with pytest.raises(AssertionError, match="OverlapMode"):
            function(X, "no_overlap")
        with pytest.raises(poptorch.Error, match=r"takes tensors, .* got int"):
            function([X, 3], MODE)


def test_inside_an_executor_the_result_is_the_same() -> None:
    class Nested(torch.nn.Module):
        def forward(self, pair: Any) -> Any:
            one, (two,) = take(pair)
            return give({"sum": one + two, "rest": (one * two, one - two)})

    result = poptorch.inferenceModel(Nested(), sharded())((X, (X * 3,)))
    assert (result["sum"] == 4).all()
    assert (result["rest"][0] == 3).all()
    assert (result["rest"][1] == -2).all()


def test_gradients_pass_through_both() -> None:
    class Trained(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Any:
            y = take(x) * self.weight
            return give(poptorch.identity_loss(y, "sum"))

    model = Trained()
    options = sharded().outputMode(poptorch.OutputMode.Sum)
    poptorch.trainingModel(model, options, torch.optim.SGD(model.parameters(), 1.0))(X)
    assert model.weight.tolist() == [0.0, 0.0]


REFUSED: Dict[str, Callable[[Tensor], Any]] = {
    "must be the only op applied to the input": lambda x: take(x) + x,
    "only op applied to the input: input 0": lambda x: (take(x), x),
    "must be the only op": lambda x: take(x) + take(x),
    "not an input of the model": lambda x: take(x + 1),
    "not an output of the model": lambda x: give(x + 1) + 1,
    "returned more than once": lambda x: [give(y) for y in [x + 1]] * 2,
}


@pytest.mark.parametrize("words", sorted(REFUSED))
def test_misplaced_overlap_is_refused_at_compile(words: str, wrap: Wrap) -> None:
    for mode_free in (sharded(), sharded(tiles=0)):  # whatever the options allow
        with pytest.raises(poptorch.Error, match=words):
            wrap(REFUSED[words], mode_free).compile(X)


def test_a_tensor_and_its_overlapped_self_are_returned_once() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: Tensor) -> Any:
            y = x + 1
            return give(y), (y,)

    with pytest.raises(poptorch.Error, match="returned more than once"):
        poptorch.inferenceModel(Twice(), sharded()).compile(X)


@pytest.mark.parametrize("function", [lambda x: take(x) + 1, lambda x: give(x + 1)])
def test_options_must_allow_for_overlap(function: Callable[[Tensor], Any], wrap: Wrap) -> None:
    words = r"Overlapped IO is not supported with poptorch\.PipelinedExecution"
    with pytest.raises(poptorch.Error, match=words):
        wrap(function).compile(X)
    with pytest.raises(poptorch.Error, match="No IO tiles allocated"):
        wrap(function, sharded(tiles=0)).compile(X)
    final = sharded().outputMode(poptorch.OutputMode.Final)
    with pytest.raises(poptorch.Error, match=r"output mode must be poptorch\.OutputMode\.All or"):
        wrap(function, final).compile(X)
    summed = sharded().outputMode(poptorch.OutputMode.Sum)
    assert (wrap(function, summed)(X) == 2).all()


def test_no_overlap_needs_nothing(wrap: Wrap) -> None:
    assert (wrap(lambda x: give(take(x, NONE) + 1, NONE))(X) == 2).all()
