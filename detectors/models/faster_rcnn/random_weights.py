"""Random weights under which scores and boxes vary as a trained model's do; they detect nothing.

Fresh from their initialisation the heads return nearly the same for every anchor and region.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.random_weights import learn_statistics, made_pictures

__all__ = ["spread_outputs"]

SIZE = 128  # pixels of the pictures: 8 x 8 cells
REGIONS = 8  # of each picture


@torch.no_grad()
def spread_outputs(
    model: FasterRCNN, *, logits_std: float = 1.0, deltas_std: float = 0.3, seed: int = 0
) -> FasterRCNN:
    """Give a freshly initialised model outputs that vary, in place.

    Batch norms take the statistics of made pictures and of regions in them; the last layers of both
    stages are scaled.

    Args:
        model: with trained norms (`norm="batch"`, no frozen stage), not folded; its parameters stay
            random.
        logits_std: standard deviation of objectness and class logits around their bias.
        deltas_std: of the deltas, in the units of each stage.
        seed: of the pictures and regions.

    Returns:
        The model, in evaluation mode.
    """
    network = model.network.eval()
    images = model.normalise(made_pictures(seed, SIZE))
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(len(images), REGIONS, 2, generator=generator) * SIZE / 2
    sides = torch.rand(len(images), REGIONS, 2, generator=generator) * SIZE / 2 + 16
    boxes = torch.cat([corners, corners + sides], dim=-1)
    learn_statistics(network, lambda: network.classify(network(images)[0], boxes))
    features, objectness, deltas = network(images)
    scale(network.rpn.objectness_logits, objectness, logits_std)
    scale(network.rpn.anchor_deltas, deltas, deltas_std)
    class_logits, box_deltas = network.classify(features, boxes)
    scale(network.box_head.class_logits, class_logits, logits_std)
    scale(network.box_head.box_deltas, box_deltas, deltas_std)
    return model


def scale(layer: nn.Module, outputs: Tensor, wanted: float) -> None:
    """Multiply a layer's weights so that its outputs have the wanted standard deviation."""
    assert isinstance(layer.weight, Tensor)
    layer.weight *= wanted / outputs.std()
