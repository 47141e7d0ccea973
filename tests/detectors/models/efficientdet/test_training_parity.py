"""Our losses and all gradients against effdet's `DetBenchTrain`, with equal weights.

Equal settings: anchors, alpha, gamma, delta, box weight, label smoothing, no stochastic depth; the
batch norms of effdet's backbone get our momentum, which changes statistics and no gradient. What
cannot be made equal, and is kept out of these batches:

- effdet's box loss leaves out every single target that is exactly 0, ours counts it, as automl
  does only where the whole box is 0: no box here has a centre or a side in common with an anchor;
- effdet drops boxes of label -1, ours ignores anchors inside them: there are none;
- effdet forces an anchor, the first, on boxes that overlap no anchor: all boxes overlap some.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any, Dict, Tuple

import pytest
import torch
from torch import Tensor

from detectors.models.efficientdet.config import CONFIGS, LossConfig
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.postprocess import PostprocessConfig

CLASSES = 5
SQUARE, WIDE = (128, 128), (128, 256)


def pair_of(effdet: Any, size: Tuple[int, int], loss: LossConfig) -> Tuple[Any, EfficientDet]:
    """effdet's bench in training mode, and our model, with the same weights."""
    torch.manual_seed(0)
    base = CONFIGS["efficientdet-d0"]
    config = replace(base, image_size=size, num_classes=CLASSES, loss=loss, anchor_scale=3.0)
    model = build_efficientdet(config, PostprocessConfig())
    theirs = effdet.get_efficientdet_config("tf_efficientdet_d0")
    theirs.update(
        image_size=size,
        num_classes=CLASSES,
        anchor_scale=config.anchor_scale,
        aspect_ratios=[tuple(pair) for pair in config.anchor_factors],
        alpha=loss.alpha,
        gamma=loss.gamma,
        delta=loss.delta,
        box_loss_weight=loss.box_weight,
        label_smoothing=loss.label_smoothing,
        legacy_focal=False,
        jit_loss=False,
        backbone_args={"drop_path_rate": 0.0},
    )
    bench = effdet.DetBenchTrain(effdet.EfficientDet(theirs, pretrained_backbone=False)).train()
    bench.model.load_state_dict(as_theirs(model.network.state_dict(), model))
    return bench, model


def as_theirs(tensors: Dict[str, Tensor], model: EfficientDet) -> Dict[str, Tensor]:
    """Weights, or gradients, under effdet's names and in its order."""
    weights: Any = importlib.import_module("detectors.weights.effdet")
    named: Dict[str, Tensor] = weights.to_effdet(tensors, model.config)
    return named


def batch_of(size: Tuple[int, int], counts: Tuple[int, ...]) -> Tuple[Tensor, Tensor, Tensor]:
    """Images, boxes (B, 6, 4) and labels (B, 6): as many boxes as each image is to have."""
    generator = torch.Generator().manual_seed(1)
    limit = torch.tensor([size[1], size[0]], dtype=torch.float32)
    images = torch.randint(0, 256, (len(counts), 3, *size), dtype=torch.uint8, generator=generator)
    corner = torch.rand(len(counts), 6, 2, generator=generator) * (limit - 40)
    sides = torch.rand(len(counts), 6, 2, generator=generator) * 60 + 9
    boxes = torch.cat([corner, torch.minimum(corner + sides, limit - 0.37)], dim=-1)
    labels = torch.randint(0, CLASSES, (len(counts), 6), generator=generator).int()
    for image, count in enumerate(counts):
        boxes[image, count:], labels[image, count:] = 0, -1
    return images, boxes, labels


@pytest.mark.parametrize(
    ("size", "counts", "smoothing"),
    [
        (SQUARE, (5, 3), 0.0),
        (SQUARE, (0, 6), 0.1),
        (WIDE, (6, 1), 0.0),
        (SQUARE, (0, 0), 0.1),
    ],
)
def test_losses_and_gradients_equal_effdets(
    effdet: Any, size: Tuple[int, int], counts: Tuple[int, ...], smoothing: float
) -> None:
    bench, model = pair_of(effdet, size, LossConfig(label_smoothing=smoothing))
    images, boxes, labels = batch_of(size, counts)
    training = model.for_training()
    loss, losses = training(images, boxes, labels, torch.zeros(len(images), dtype=torch.int32))
    loss.backward()
    numbered = torch.where(labels >= 0, labels + 1, labels).float()  # theirs begin with 1
    target = {"bbox": boxes[..., [1, 0, 3, 2]], "cls": numbered}
    theirs = bench(training.normalise(images), target)
    theirs["loss"].backward()
    expected = [theirs["class_loss"], theirs["box_loss"] * 50]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert (losses[1] > 0) == bool(sum(counts))

    found = {name: one.grad for name, one in model.network.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    ours = as_theirs({name: one for name, one in found.items() if one is not None}, model)
    peers = dict(bench.model.named_parameters())
    assert set(ours) == set(peers)
    largest = max(float(one.grad.abs().max()) for one in peers.values())
    for name, one in peers.items():
        # biases before a batch norm have a gradient of 0, and rounding, in both
        scale = max(float(one.grad.abs().max()), 0.01 * largest)
        assert float((ours[name] - one.grad).abs().max()) <= 1e-4 * scale, name
