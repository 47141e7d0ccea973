"""Every optimizer on the device updates as plain PyTorch does (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.two_layers import (
    GA,
    Network,
    R,
    assert_same_weights,
    batch,
    options,
    plain_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# our optimizer, plain torch's (LAMB: our host `step`, whose values other tests do by hand)
PAIRS: Dict[str, Any] = {
    "sgd stateless": (lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd momentum": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "sgd nesterov": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "sgd combined": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, use_combined_accum=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "sgd combined nesterov": (
        lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True, use_combined_accum=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "adam": (
        lambda p: optim.Adam(p, 0.01, weight_decay=0.1, loss_scaling=128.0),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    ),
    "adamw": (
        lambda p: optim.AdamW(p, 0.01, betas=(0.8, 0.99), eps=1e-6, loss_scaling=64.0),
        lambda p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.99), eps=1e-6),
    ),
    "rmsprop": (
        lambda p: optim.RMSprop(p, 0.01, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, 0.01, weight_decay=0.1),
    ),
    "rmsprop centered": (
        lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
        lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    ),
    "lamb": (lambda p: optim.LAMB(p, 0.01), lambda p: optim.LAMB(p, 0.01)),
    "torch sgd": (
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    ),
    "torch adam": (lambda p: torch.optim.Adam(p, 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "torch adamw": (
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
    ),
    "torch rmsprop": (
        lambda p: torch.optim.RMSprop(p, 0.01),
        lambda p: torch.optim.RMSprop(p, 0.01),
    ),
    "default": (lambda p: None, lambda p: torch.optim.SGD(p, lr=0.01)),  # 1.1
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_call_is_one_torch_step_on_the_mean_of_the_losses(name: str) -> None:
    # 2.1, 2.8: accumulation 16 and 2 replicas; two calls, so that state counts.
    ours, theirs = PAIRS[name]
    model, reference = Network(), Network()
    executor = poptorch.trainingModel(model, options(), ours(model.parameters()))
    plain = theirs(reference.parameters())
    data = batch(GA * R)
    for _ in range(2):
        executor(*data)
        plain_step(reference, plain, data)
    # RMSprop's first step divides rounding by gradients near zero.
    assert_same_weights(model, reference, atol=2e-5 if "rmsprop" in name else 1e-6)
