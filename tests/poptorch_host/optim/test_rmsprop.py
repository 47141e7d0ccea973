"""RMSprop: TensorFlow's variant, and `centered`."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.optim.one_weight import weights_after
from tests.poptorch_host.optim.two_layers import Network

pytestmark = pytest.mark.usefixtures("one_thread")


def test_rmsprop_as_tensorflow_by_hand() -> None:
    # s = 0.5 * 1 + 0.5 * 4 = 2.5; buffer = 0.1 * 2 / sqrt(2.5 + 1.5) = 0.1; then s = 3.25 and
    # the buffer 0.5 * 0.1 + 0.2 / sqrt(4.75): lr is inside it, eps inside the root.
    def make(p: Any) -> optim.RMSprop:
        return optim.RMSprop(p, 0.1, alpha=0.5, eps=1.5, momentum=0.5, use_tf_variant=True)

    second = 0.5 * 0.1 + 0.1 * 2 / 4.75**0.5
    assert weights_after(make, [2.0, 2.0]) == pytest.approx([0.9, 0.9 - second])


def test_rmsprop_groups_agree_on_centered() -> None:
    model = Network()
    groups: List[Dict[str, Any]] = [
        {"params": model.body.parameters(), "centered": True},
        {"params": model.head.parameters()},
    ]
    with pytest.raises(AssertionError, match="centered"):
        poptorch.trainingModel(model, optimizer=torch.optim.RMSprop(groups))
