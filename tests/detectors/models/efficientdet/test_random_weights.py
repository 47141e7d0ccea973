"""Random weights that are good for tests, benchmarks and demonstrations."""

from __future__ import annotations

from typing import Callable

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.random_weights import spread_outputs


def test_untouched_weights_score_every_anchor_the_same() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        logits, _ = efficientdet("d0", image_size=128).predict(torch.rand(1, 3, 128, 128) * 255)
    assert float(torch.cat(logits, 1).std()) < 1e-4  # why this module exists


@pytest.mark.parametrize("name", ["d0", "lite0"])
def test_outputs_vary_as_asked(name: str) -> None:
    torch.manual_seed(0)
    model = spread_outputs(efficientdet(name), logits_std=1.5, deltas_std=0.4, seed=3)
    model.configure(image_size=256)
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        logits, deltas = (torch.cat(levels, 1) for levels in model.predict(images))
    # other pictures than those the statistics are of: the order of size is what counts
    assert 0.5 < float(logits.std()) < 5
    assert 0.1 < float(deltas.std()) < 1.5


def test_real_photos_get_some_boxes_not_all(real_images: Callable[[int, int], Tensor]) -> None:
    torch.manual_seed(0)
    model = spread_outputs(efficientdet("d0", image_size=384))
    with torch.no_grad():
        counts = model(real_images(2, 384)).count
    assert (counts > 0).all()


def test_the_same_seed_gives_the_same_weights_in_evaluation_mode() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = spread_outputs(efficientdet("d0"))
        assert not any(module.training for module in model.modules())
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
