"""Runs of infer.py's main with a small detector on small photos."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from PIL import Image

import infer
from detectors.models.efficientdet.config import CONFIGS, EfficientDetConfig
from detectors.models.efficientdet.inference import build_efficientdet
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.postprocess import PostprocessConfig
from detectors.weights import save
from tests.infer.small_runs import CLASSES, Infer, Run

TINY: Dict[str, Any] = {
    "fpn_cells": 1,
    "head_repeats": 1,
    "fpn_channels": 32,
    "num_classes": len(CLASSES),
    "image_size": (128, 128),
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector of three classes whose scores and boxes vary; D0's backbone and one BiFPN
    cell.
    """
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIGS["efficientdet-d0"], **TINY)
    model = spread_outputs(build_efficientdet(config, PostprocessConfig()), logits_std=1.5)
    bias = model.network.class_head.predict.pointwise.bias
    assert isinstance(bias, torch.Tensor)
    torch.nn.init.zeros_(bias)
    path = tmp_path_factory.mktemp("weights") / "tiny.ckpt"
    return save(model, path, classes=CLASSES)


@pytest.fixture
def run(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> Infer:
    """Run infer.py's main in an empty folder."""

    def call(*words: object) -> Run:
        capsys.readouterr()
        code = infer.main([str(word) for word in words])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Run(code, seen.out, seen.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five small photos: 1.jpg, 2.jpg, ... of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(1, 6):
        pixels = random.integers(0, 256, (60 + 10 * number, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((200, 100 + 20 * number)).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture
def small_d0(monkeypatch: pytest.MonkeyPatch) -> EfficientDetConfig:
    """`efficientdet-d0` as small as `checkpoint`, with COCO's number of classes."""
    small = dataclasses.replace(CONFIGS["efficientdet-d0"], **{**TINY, "num_classes": 90})
    monkeypatch.setitem(CONFIGS, "efficientdet-d0", small)
    return small
