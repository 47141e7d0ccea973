"""Adam and AdamW: the bias correction, and second moments in half (2.8).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import logging
from typing import Any, Callable

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import OneWeight, weights_after

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bias_correction_is_honoured() -> None:
    # Without it the first step of Adam is lr * 0.1 g / sqrt(0.001 g**2) = lr * 3.162 sign(g).
    def make(p: Any) -> optim.AdamW:
        return optim.AdamW(p, 0.01, weight_decay=0.0, eps=1e-12, bias_correction=False)

    assert weights_after(make, [4.0]) == pytest.approx([1 - 0.01 * 0.1 / 0.001**0.5])


def test_bias_correction_is_not_read_by_a_strict_runtime(
    configure: Callable[..., object],
) -> None:
    # 2.8: in the releases up to 3.4 the flag has no effect; the first step is lr * sign(g) then
    configure(strict=True)

    def make(p: Any) -> optim.AdamW:
        return optim.AdamW(p, 0.01, weight_decay=0.0, eps=1e-12, bias_correction=False)

    assert weights_after(make, [4.0]) == pytest.approx([1 - 0.01])


def test_half_second_moments_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    # 2.8
    model = OneWeight()
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        poptorch.trainingModel(
            model,
            optimizer=optim.Adam(
                model.parameters(), second_order_momentum_accum_type=torch.float16
            ),
        )
    assert "second_order_momentum_accum_type=torch.float16 is risky" in caplog.text
