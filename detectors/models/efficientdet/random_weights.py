"""Random weights under which scores and boxes vary as a trained model's do; they detect nothing.

A network fresh from its initialisation returns its biases: features shrink from layer to layer
until every anchor has the same score, so that neither NMS nor a drawing shows anything.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.models.efficientdet.inference import EfficientDet

__all__ = ["spread_outputs"]

SIZE = 384  # pixels of the pictures below: a coarsest level of 3 x 3 cells has a variance


def made_pictures(seed: int) -> Tensor:
    """(4, 3, SIZE, SIZE) float, 0..255: patches of all sizes, equally strong, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(4, 3, SIZE, SIZE)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        grey = torch.randn(4, 1, cells, cells, generator=generator)
        colour = torch.randn(4, 3, cells, cells, generator=generator) * 0.3
        total += F.interpolate(grey + colour, (SIZE, SIZE), mode="nearest")
    return (total * 40 + 115).clamp(0, 255)


@torch.no_grad()
def spread_outputs(
    model: EfficientDet, *, logits_std: float = 1.0, deltas_std: float = 0.3, seed: int = 0
) -> EfficientDet:
    """Give a freshly initialised model outputs that vary, in place.

    Batch norms take the statistics of made pictures; the last convolutions are scaled. Scores
    differ from place to place more than from picture to picture.

    Args:
        model: not folded; its parameters stay random.
        logits_std: standard deviation of class logits around their bias.
        deltas_std: of box deltas.
        seed: of the pictures.

    Returns:
        The model, in evaluation mode.
    """
    network = model.network.eval()
    images = model.normalise(made_pictures(seed))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one batch, as they are
        norm.train()
    network(images)
    for norm, momentum in zip(norms, momenta):
        assert isinstance(norm.running_var, Tensor)
        # A channel that is silent here would drown all others on pictures where it is not.
        norm.running_var.clamp_(min=float(norm.running_var.mean()))
        norm.momentum = momentum
        norm.eval()
    heads = (network.class_head, network.box_head)
    for head, outputs, wanted in zip(heads, network(images), (logits_std, deltas_std)):
        last = head.predict.pointwise
        assert isinstance(last, nn.Conv2d)
        last.weight *= wanted / torch.cat(outputs, 1).std()
    return model
