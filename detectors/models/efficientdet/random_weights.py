"""Random weights under which scores and boxes vary as a trained model's do; they detect nothing.

A network fresh from its initialisation returns its biases: features shrink from layer to layer
until every anchor has the same score, so that neither NMS nor a drawing shows anything.
"""

from __future__ import annotations

import torch
from torch import nn

from detectors.models.efficientdet.inference import EfficientDet
from detectors.random_weights import learn_statistics, made_pictures

__all__ = ["spread_outputs"]

SIZE = 384  # pixels of the pictures: a coarsest level of 3 x 3 cells has a variance


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
    images = model.normalise(made_pictures(seed, SIZE))
    learn_statistics(network, lambda: network(images))
    heads = (network.class_head, network.box_head)
    for head, outputs, wanted in zip(heads, network(images), (logits_std, deltas_std)):
        last = head.predict.pointwise
        assert isinstance(last, nn.Conv2d)
        last.weight *= wanted / torch.cat(outputs, 1).std()
    return model
