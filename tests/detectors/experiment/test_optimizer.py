"""The optimizer that a recipe asks for."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch
from torch import nn

from detectors.experiment.optimizer import build_optimizer
from detectors.experiment.recipe import Algorithm, OptimSettings
from poplar_ops.runtime import poptorch

OF_TORCH = {
    Algorithm.sgd: torch.optim.SGD,
    Algorithm.adam: torch.optim.Adam,
    Algorithm.adamw: torch.optim.AdamW,
    Algorithm.rmsprop: torch.optim.RMSprop,
}


def network() -> nn.Module:
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    made[2].requires_grad_(False)
    return made


@pytest.mark.parametrize("name", list(Algorithm))
def test_poptorchs_optimizer_is_of_the_recipes_name(name: Algorithm) -> None:
    made = build_optimizer(network(), OptimSettings(name=name, lr=0.5), poptorch=True)
    assert type(made).__name__.lower() == name.value
    assert isinstance(made, poptorch.optim.Optimizer)
    assert made.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("name", list(OF_TORCH))
def test_torchs_optimizer_is_torchs(name: Algorithm) -> None:
    made = build_optimizer(network(), OptimSettings(name=name), poptorch=False)
    assert type(made) is OF_TORCH[name]


def test_settings_arrive() -> None:
    optim = OptimSettings(momentum=0.8, weight_decay=0.25, loss_scaling=64.0, max_grad_norm=3.0)
    made: Any = build_optimizer(network(), optim, poptorch=True)
    assert (made.loss_scaling, made.max_grad_norm) == (64.0, 3.0)
    (group,) = made.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.8, 0.25)


def test_frozen_parameters_are_left_out() -> None:
    made = build_optimizer(network(), OptimSettings(), poptorch=False)
    assert [tuple(one.shape) for one in made.param_groups[0]["params"]] == [
        (4, 3, 3, 3),
        (4,),
        (4,),
        (4,),
    ]


def test_vectors_may_go_without_decay() -> None:
    made = build_optimizer(
        network(), OptimSettings(weight_decay=0.1, bias_decay=False), poptorch=True
    )
    kernels, vectors = made.param_groups
    assert ([one.dim() for one in kernels["params"]], kernels["weight_decay"]) == ([4], 0.1)
    assert ([one.dim() for one in vectors["params"]], vectors["weight_decay"]) == ([1, 1, 1], 0.0)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no parameter is to be trained: .* model\.frozen$"):
        build_optimizer(network().requires_grad_(False), OptimSettings(), poptorch=True)


@pytest.mark.parametrize("name", [Algorithm.rmsprop, Algorithm.lamb])
def test_clipping_is_refused_where_poptorch_has_none(name: Algorithm) -> None:
    optim = OptimSettings(name=name, max_grad_norm=1.0)
    with pytest.raises(ValueError, match=f"max_grad_norm=1.0: PopTorch's {name.value} does not"):
        build_optimizer(network(), optim, poptorch=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": Algorithm.lamb}, "lamb: torch has none"),
        ({"max_grad_norm": 2.0}, r"set Trainer\(gradient_clip_val=2.0\)"),
        ({"loss_scaling": 128.0}, 'precision="16-mixed"'),
    ],
)
def test_what_a_plain_trainer_does_is_refused_to_torchs(
    changes: Dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        build_optimizer(network(), OptimSettings(**changes), poptorch=False)
