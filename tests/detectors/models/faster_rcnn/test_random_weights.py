"""Random weights for tests and benchmarks: outputs vary, and the seed says how."""

from __future__ import annotations

import torch

from detectors import faster_rcnn
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.models.faster_rcnn.random_weights import spread_outputs
from detectors.random_weights import made_pictures


def spread(seed: int) -> FasterRCNN:
    torch.manual_seed(0)
    model = faster_rcnn("r18_c4", 3, image_size=64, norm="batch", frozen_stages=0)
    return spread_outputs(model, logits_std=2.0, deltas_std=0.5, seed=seed)


def test_outputs_of_both_stages_vary_as_asked() -> None:
    model = spread(0)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        images = model.normalise(made_pictures(0, 128))
        features, objectness, deltas = model.network(images)
        boxes = torch.tensor([[[8.0, 8.0, 60.0, 90.0], [40.0, 10.0, 120.0, 50.0]]])
        logits, _ = model.network.classify(features, boxes.expand(4, -1, -1))
    assert abs(float(objectness.std()) - 2.0) < 0.01
    assert abs(float(deltas.std()) - 0.5) < 0.01
    assert 0.5 < float(logits.std()) < 4
    assert len(set(logits[..., :-1].argmax(-1).flatten().tolist())) > 1


def test_the_seed_says_how() -> None:
    one, two, three = spread(0), spread(0), spread(1)
    states = [model.network.state_dict() for model in (one, two, three)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(
        states[0]["backbone.bn1.running_mean"], states[2]["backbone.bn1.running_mean"]
    )
