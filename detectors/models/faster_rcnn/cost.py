"""Multiply-adds of the convolutions and linear layers, what papers and model tables call FLOPs."""

from __future__ import annotations

from typing import Any, List, Tuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from detectors.models.faster_rcnn.network import FasterRCNNNetwork

__all__ = ["count_multiply_adds"]


def count_multiply_adds(
    network: FasterRCNNNetwork, image_size: Tuple[int, int], num_regions: int
) -> int:
    """Multiply-adds of one image, both stages; nothing is computed but shapes.

    Args:
        network: in evaluation mode, float32, with or without its batch norms folded.
        image_size: (height, width), pixels.
        num_regions: that the second stage sees.
    """
    counts: List[int] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts.append(output.numel() // weight.shape[0] * weight.numel())

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            features, _, _ = network(torch.zeros(1, 3, *image_size))
            network.classify(features, torch.zeros(1, num_regions, 4))
    finally:
        for handle in handles:
            handle.remove()
    return sum(counts)
