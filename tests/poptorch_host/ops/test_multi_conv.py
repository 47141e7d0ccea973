"""`MultiConv` checks its settings, and their number against the convolutions inside (1.6)."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch


class Two(nn.Module):
    """Two convolutions under a hint."""

    def __init__(self, hint: poptorch.MultiConv) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)
        self.hint = hint

    def forward(self, x: Tensor) -> Any:
        with self.hint:
            left, right = self.one(x), self.two(x)
        return left + right


X = torch.rand(1, 1, 5, 5)


def test_settings_are_kept_and_change_nothing() -> None:
    hint = poptorch.MultiConv().availableMemoryProportions([0.1, 0.2]).partialsTypes(torch.half)
    hint.enableConvDithering(True).planType(poptorch.MultiConvPlanType.Serial)
    hint.perConvReservedTiles(120).cycleBackOff(0.3)
    model = Two(hint)
    expected = model.one(X) + model.two(X)
    torch.testing.assert_close(model(X), expected)
    torch.testing.assert_close(poptorch.inferenceModel(model)(X), expected)
    assert hint.settings["availableMemoryProportions"] == [0.1, 0.2]


def test_none_takes_a_setting_back() -> None:
    hint = poptorch.MultiConv().availableMemoryProportions(0.1).enableConvDithering(True)
    hint.planType(poptorch.MultiConvPlanType.Parallel)
    hint.availableMemoryProportions(None).enableConvDithering(None).planType(None)
    assert hint.settings == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda hint: hint.availableMemoryProportions([0.1]),
        lambda hint: hint.availableMemoryProportions((0.1, 0.1, 0.1)),
        lambda hint: hint.partialsTypes([torch.half]),
        lambda hint: hint.enableConvDithering([True, False, True]),
    ],
)
def test_a_list_has_one_entry_for_each_convolution(change: Callable[[Any], Any]) -> None:
    model = Two(change(poptorch.MultiConv()))
    with pytest.raises(poptorch.Error, match=r"each of the 2 convolutions inside, got [13]"):
        poptorch.inferenceModel(model).compile(X)


def test_it_holds_convolutions_and_no_other_multi_conv(wrap: Callable[..., Any]) -> None:
    def nothing(x: Tensor) -> Tensor:
        with poptorch.MultiConv():
            return x + 1

    with pytest.raises(poptorch.Error, match="has no convolution inside"):
        wrap(nothing).compile(X)

    class Nested(Two):
        def forward(self, x: Tensor) -> Any:
            with poptorch.MultiConv():
                return super().forward(x)

    with pytest.raises(poptorch.Error, match=r"MultiConv inside poptorch\.MultiConv"):
        poptorch.inferenceModel(Nested(poptorch.MultiConv())).compile(X)


def test_it_is_trained_through() -> None:
    class Trained(Two):
        def forward(self, x: Tensor) -> Any:
            return poptorch.identity_loss(super().forward(x), "sum")

    model = Trained(poptorch.MultiConv().partialsTypes([torch.float, torch.half]))
    before = model.one.weight.detach().clone()
    poptorch.trainingModel(model)(X)
    assert not torch.equal(before, model.one.weight)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda m: m.enableConvDithering(1), ValueError, "value must be bool or list of bools"),
        (lambda m: m.enableConvDithering([True, 0]), ValueError, "value must be bool or list"),
        (lambda m: m.planType(0), AssertionError, "Invalid plan type!"),
        (lambda m: m.partialsTypes(torch.int32), ValueError, "Invalid partials types"),
        (lambda m: m.partialsTypes([torch.half, "x"]), ValueError, "Invalid partials types"),
        (
            lambda m: m.availableMemoryProportions("x"),
            AssertionError,
            "Invalid available memory proportion!",
        ),
        (lambda m: m.availableMemoryProportions([]), AssertionError, "Invalid available memory"),
        (lambda m: m.availableMemoryProportions([1]), AssertionError, "Invalid available memory"),
        (lambda m: m.perConvReservedTiles(0.5), AssertionError, "Invalid perConvReservedTiles!"),
        (lambda m: m.cycleBackOff("x"), AssertionError, "Invalid cycleBackOff!"),
    ],
)
def test_other_values_are_refused(call: Callable[[Any], object], kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        call(poptorch.MultiConv())
