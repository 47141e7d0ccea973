"""Optimizers have PopTorch's signatures and defaults; `step()` is plain PyTorch."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim


def weights() -> List[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor([3.0, 4.0]))]


# 1.9: class, arguments of its own and their defaults
DEFAULTS = [
    (
        lambda: optim.SGD(weights(), lr=0.1),
        {
            "loss_scaling": 1.0,
            "velocity_scaling": 1.0,
            "use_combined_accum": False,
            "accum_type": torch.float32,
            "velocity_accum_type": torch.float32,
            "max_grad_norm": float("inf"),
        },
        {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
    ),
    (
        lambda: optim.Adam(weights()),
        {"loss_scaling": 1.0, "second_order_momentum_accum_type": torch.float32},
        {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
    ),
    (
        lambda: optim.AdamW(weights()),
        {"bias_correction": True, "max_grad_norm": float("inf")},
        {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
    ),
    (
        lambda: optim.RMSprop(weights()),
        {"use_tf_variant": False, "first_order_momentum_accum_type": torch.float32},
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False},
    ),
    (
        lambda: optim.LAMB(weights()),
        {"bias_correction": True, "loss_scaling": 1.0},
        {"lr": 1e-3, "weight_decay": 1e-2, "max_weight_norm": 65500.0},
    ),
]


@pytest.mark.parametrize(("make", "own", "group"), DEFAULTS)
def test_defaults_are_poptorch_defaults(make: Callable[[], Any], own: Any, group: Any) -> None:
    optimizer = make()
    assert isinstance(optimizer, optim.Optimizer)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert {name: getattr(optimizer, name) for name in own} == own
    assert {name: optimizer.param_groups[0][name] for name in group} == group


def test_adamw_is_torch_s_adamw() -> None:
    assert isinstance(optim.AdamW(weights()), torch.optim.AdamW)
    assert not isinstance(optim.Adam(weights()), torch.optim.AdamW)


def test_arguments_that_were_passed_are_variable() -> None:
    # 2.8
    attributes = optim.SGD(weights(), lr=0.1, momentum=0.9).variable_attrs
    assert not attributes.isConstant("lr")
    assert not attributes.isConstant("momentum")
    assert attributes.isConstant("weight_decay")
    attributes.markAsConstant("momentum")
    attributes.markAsVariable("weight_decay")
    assert attributes.isConstant("momentum")
    assert not attributes.isConstant("weight_decay")
    with pytest.raises(AssertionError, match="momentun is not an attribute"):
        attributes.isConstant("momentun")


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_amsgrad_is_refused(kind: Any) -> None:
    words = r"Only non-amsgrad Adam/AdamW optimizers are supported\."
    with pytest.raises(ValueError, match=words):
        kind(weights(), amsgrad=True)


def test_accumulation_types_are_float_or_half() -> None:
    assert optim.SGD(weights(), 0.1, accum_type=torch.float16).accum_type is torch.float16
    words = r"Accumulation types must be either torch\.float32 or torch\.float16"
    with pytest.raises(AssertionError, match=words):
        optim.AdamW(weights(), accum_type=torch.bfloat16)


def test_torch_only_switches_are_accepted_and_not_read() -> None:
    optimizer = optim.SGD(weights(), lr=1.0, maximize=True, foreach=True)
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.tolist() == [2, 3]  # minimised


def test_schedulers_drive_the_learning_rate() -> None:
    optimizer = optim.SGD(weights(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_lamb_s_first_step_by_hand() -> None:
    # Without weight decay and eps the first direction is sign(grad) = (1, -1), of norm sqrt(2);
    # |w| = 5, so each weight moves lr * 5 / sqrt(2).
    optimizer = optim.LAMB(weights(), lr=0.1, weight_decay=0.0, eps=0.0)
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = torch.tensor([0.5, -2.0])
    optimizer.step()
    moved = 0.1 * 5 / 2**0.5
    torch.testing.assert_close(weight.data, torch.tensor([3.0 - moved, 4.0 + moved]))


def test_lamb_bounds_the_weight_norm_and_keeps_the_ratio_1_at_zero() -> None:
    bounded = optim.LAMB(weights(), lr=0.1, weight_decay=0.0, eps=0.0, max_weight_norm=1.0)
    (weight,) = bounded.param_groups[0]["params"]
    weight.grad = torch.tensor([1.0, 1.0])
    bounded.step()
    moved = 0.1 / 2**0.5
    torch.testing.assert_close(weight.data, torch.tensor([3.0 - moved, 4.0 - moved]))
    zero = torch.nn.Parameter(torch.zeros(1))
    zero.grad = torch.ones(1)
    optim.LAMB([zero], lr=0.1, weight_decay=0.0, eps=0.0).step()
    torch.testing.assert_close(zero.data, torch.tensor([-0.1]))


def test_state_is_the_device_s() -> None:
    optimizer = poptorch.optim.AdamW(weights())
    assert optimizer.state_dict() is None  # 2.8: before compile
    assert not optimizer.has_state()
    with pytest.raises(RuntimeError, match="because it is empty"):
        optimizer.load_state_dict({})
    words = r"Only IPU optimizer states can be loaded onto the IPU\."
    with pytest.raises(RuntimeError, match=words):
        optimizer.load_state_dict(torch.optim.AdamW(weights()).state_dict())
    optimizer.load_state_dict({"ipu_state": {}, "ipu_param": {}})
    assert optimizer.has_state()
    assert optimizer.host_state_is_dirty


def test_tensorflows_rmsprop_on_the_host_by_hand() -> None:
    # s = 0.5 * 1 + 0.5 * 4 = 2.5; moved 0.1 * 2 / sqrt(2.5 + 1.5) = 0.1; then s = 3.25
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = optim.RMSprop([weight], 0.1, alpha=0.5, eps=1.5, momentum=0.5, use_tf_variant=True)
    for expected in (0.9, 0.9 - 0.05 - 0.1 * 2 / 4.75**0.5):
        weight.grad = torch.full((1,), 2.0)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)
    closed = optimizer.step(lambda: 3.0)
    assert closed == 3.0
