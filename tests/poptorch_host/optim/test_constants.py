"""Which settings are compiled in, and what `setOptimizer` may change later (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from poptorch_host.optim.converted import convert
from tests.poptorch_host.optim.one_weight import Make, OneWeight

pytestmark = pytest.mark.usefixtures("one_thread")


def replace(old: Make, new: Make, compiled: bool = True) -> None:
    model = OneWeight()
    executor = poptorch.trainingModel(model, optimizer=old(model.parameters()))
    if compiled:
        executor.compile(torch.ones(1))
    executor.setOptimizer(new(model.parameters()))


SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            lambda p: SGD(p, 0.1),
            lambda p: ADAM(p, 0.1),
            "Can not replace optimizer of type SGD with new optimizer of type Adam",
        ),
        (
            lambda p: ADAM(p, 0.1),
            lambda p: ADAMW(p, 0.1),
            "Can not replace optimizer of type Adam with new optimizer of type AdamW",
        ),
        # torch: 0 is momentum's reference value and constant, 0.9 is variable
        (
            lambda p: SGD(p, 0.1),
            lambda p: SGD(p, 0.1, momentum=0.9),
            "Can not replace a constant value with a non constant value.*momentum of group 0",
        ),
        # poptorch: constant because it was not passed
        (
            lambda p: optim.SGD(p, 0.1),
            lambda p: optim.SGD([{"params": p, "weight_decay": 0.5}], 0.1),
            "Values are constant but do not match.*weight_decay of group 0",
        ),
        # torch: alpha is always constant
        (
            lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9),
            lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.8),
            "Values are constant but do not match.*alpha",
        ),
        (
            lambda p: optim.SGD(p, 0.1),
            lambda p: optim.SGD(p, 0.1, loss_scaling=2.0),
            "Can not replace a constant value with a non constant value.*loss_scaling",
        ),
        (
            lambda p: optim.SGD(p, 0.1, max_grad_norm=1.0),
            lambda p: optim.SGD(p, 0.1, max_grad_norm=2.0),
            "Clip norm settings do not match",
        ),
        (
            lambda p: optim.SGD(p, 0.1, use_combined_accum=True),
            lambda p: optim.SGD(p, 0.1),
            "use_combined_accum cannot change after compile",
        ),
    ],
)
def test_constants_cannot_be_replaced_after_compile(old: Make, new: Make, words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        replace(old, new)
    replace(old, new, compiled=False)


def test_variables_can_be_replaced_after_compile() -> None:
    replace(lambda p: SGD(p, 0.1, momentum=0.8), lambda p: SGD(p, 0.2, momentum=0.0))
    replace(lambda p: ADAM(p, 0.1, eps=1e-5), lambda p: ADAM(p, torch.tensor(0.2), eps=1e-4))
    replace(lambda p: optim.AdamW(p, eps=1e-8), lambda p: optim.AdamW(p, eps=1e-4))

    def marked(p: Any) -> optim.SGD:
        made = optim.SGD(p, 0.1)
        made.variable_attrs.markAsVariable("momentum")
        return made

    replace(marked, lambda p: optim.SGD(p, 0.1, momentum=0.5))


def test_a_loss_scaling_that_was_passed_can_be_replaced() -> None:
    # The velocity's scaling follows it: it was once compared with the first one's.
    replace(
        lambda p: optim.SGD(p, 0.1, momentum=0.9, loss_scaling=2.0),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, loss_scaling=4.0),
    )


def test_half_accumulators_cannot_come_after_compile() -> None:
    with pytest.raises(ValueError, match=r"Invalid optimizer: .*executable is already compiled\."):
        replace(lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, accum_type=torch.half))


# optimizer, then the attributes of its group and whether they are constant
CONSTANTS: List[Tuple[Make, Dict[str, bool]]] = [
    (
        lambda p: SGD(p, 0.0),
        {"lr": False, "momentum": True, "dampening": True, "weight_decay": True, "nesterov": True},
    ),
    (
        lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        {"lr": False, "momentum": False, "dampening": True, "weight_decay": False},
    ),
    (lambda p: ADAM(p, 1e-3), {"lr": False, "betas": True, "eps": True, "weight_decay": True}),
    (
        lambda p: ADAM(p, 1e-3, betas=(0.8, 0.999), eps=1e-7, weight_decay=1e-2),
        {"betas": False, "eps": False, "weight_decay": False},
    ),
    (lambda p: ADAMW(p, 1e-3), {"lr": False, "betas": True, "eps": True, "weight_decay": True}),
    (lambda p: ADAMW(p, 1e-3, weight_decay=0.0), {"weight_decay": False}),
    (
        lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.5, eps=1e-7, momentum=0.1),
        {"lr": False, "alpha": True, "eps": False, "momentum": False, "weight_decay": True},
    ),
    # poptorch: what was passed is variable, whatever its value
    (lambda p: optim.SGD(p, 0.1), {"lr": False, "momentum": True, "weight_decay": True}),
    (lambda p: optim.SGD(p, 0.1, momentum=0.0), {"lr": False, "momentum": False}),
    (lambda p: optim.Adam(p), {"lr": True, "betas": True, "eps": True, "weight_decay": True}),
    (lambda p: optim.AdamW(p, eps=1e-8, betas=(0.9, 0.999)), {"betas": False, "eps": False}),
    (lambda p: optim.RMSprop(p, alpha=0.99), {"lr": True, "alpha": False, "eps": True}),
    (
        lambda p: optim.LAMB(p, max_weight_norm=65500.0),
        {"lr": True, "max_weight_norm": False, "weight_decay": True},
    ),
]


@pytest.mark.parametrize(("make", "expected"), CONSTANTS)
def test_which_attributes_are_compiled_in(make: Make, expected: Dict[str, bool]) -> None:
    model = OneWeight()
    names = {id(weight): name for name, weight in model.named_parameters()}
    (group,) = convert(make(model.parameters()), names, lambda kind, text: None).groups
    assert {name: group[name].constant for name in expected} == expected


def test_marks_override_what_was_passed() -> None:
    model = OneWeight()
    optimizer = optim.SGD(model.parameters(), lr=0.1, loss_scaling=2.0)
    optimizer.variable_attrs.markAsConstant("loss_scaling")
    optimizer.variable_attrs.markAsConstant("lr")
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor.compile(torch.ones(1))
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(poptorch.Error, match=r"Values are constant but do not match\. lr"):
        executor.setOptimizer(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.loss_scaling = 4.0
    with pytest.raises(poptorch.Error, match=r"Values are constant .*loss_scaling"):
        executor.setOptimizer(optimizer)
