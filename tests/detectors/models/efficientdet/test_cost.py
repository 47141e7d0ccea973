"""Multiply-adds, counted from one small forward."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors import efficientdet
from detectors.models.efficientdet.cost import count_multiply_adds


@pytest.mark.parametrize("size", [(256, 256), (200, 330)])
def test_the_count_is_that_of_a_whole_forward(size: Tuple[int, int]) -> None:
    model = efficientdet("d0", num_classes=3)
    expected = 0

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal expected
        kernel = module.weight
        assert isinstance(kernel, Tensor)
        expected += output[0, 0].numel() * kernel.numel()  # each cell, the whole kernel

    handles = [
        module.register_forward_hook(note)
        for module in model.network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model.network(torch.zeros(1, 3, *size))
    for handle in handles:
        handle.remove()
    assert count_multiply_adds(model.network, size, model.config.max_level) == expected


@pytest.mark.parametrize(("name", "billions"), [("d0", 2.5), ("d2", 11)])
def test_the_counts_are_those_of_the_paper(name: str, billions: float) -> None:
    # Table 2 of arXiv:1911.09070 calls them FLOPs and rounds to two digits.
    model = efficientdet(name)
    count = count_multiply_adds(model.network, model.config.image_size, model.config.max_level)
    assert float(f"{count / 1e9:.2g}") == billions


def test_counting_leaves_the_network_as_it_was() -> None:
    model = efficientdet("d0", num_classes=3)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    count_multiply_adds(model.network, (128, 128), model.config.max_level)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(module._forward_hooks for module in model.network.modules())
