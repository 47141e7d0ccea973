"""timm models as backbones."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from detectors import efficientdet
from detectors.backbones.timm_features import TimmFeatures


def test_resnet18_feeds_efficientdet(timm: Any) -> None:
    model = efficientdet("d0", image_size=128, backbone="timm:resnet18", nms="none")
    assert model.network.backbone.channels == (128, 256, 512)
    with torch.no_grad():
        boxes = model(torch.zeros(1, 3, 128, 128, dtype=torch.uint8)).boxes
    assert boxes.shape == (1, 3069, 4)  # (16^2 + 8^2 + 4^2 + 2^2 + 1) * 9


def test_an_unknown_timm_model_gets_the_nearest(timm: Any) -> None:
    with pytest.raises(ValueError, match="timm has no model 'resnet1'; it has"):
        TimmFeatures("resnet1")


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match="pip install timm"):
        TimmFeatures("resnet18")
