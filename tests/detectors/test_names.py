"""The package's front door: names, settings, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import detectors
from detectors import MODELS, efficientdet, model_name
from detectors.models.efficientdet.config import CONFIGS


def test_every_name_has_a_configuration() -> None:
    assert tuple(CONFIGS) == MODELS


@pytest.mark.parametrize(
    "text", ["d2", "D2", "efficientdet-d2", "efficientdet_d2", "EfficientDet-D2"]
)
def test_a_model_has_many_spellings(text: str) -> None:
    assert model_name(text) == "efficientdet-d2"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("d9", "efficientdet-d7"),
        ("d77", "efficientdet-d7"),
        ("efficentdet_d7x", "efficientdet-d7x"),
        ("lite5", "efficientdet-lite4"),
    ],
)
def test_a_wrong_name_gets_the_nearest(text: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no model '{text}'; did you mean .*{near}"):
        model_name(text)


@pytest.mark.parametrize("text", ["yolo", "faster_rcnn", "", "☂"])
def test_a_name_like_none_gets_the_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"models are efficientdet-d0, .*efficientdet-lite4"):
        model_name(text)


def test_importing_detectors_imports_nothing_heavy(repository: Path) -> None:
    heavy = [
        "torch",
        "lightning",
        "albumentations",
        "pycocotools",
        "timm",
        "torchvision",
        "matplotlib",
    ]
    code = f"import sys, detectors; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True
    )
    assert out.stdout.strip() == "[]"


def test_building_a_model_imports_nothing_heavy(repository: Path) -> None:
    heavy = ["lightning", "albumentations", "pycocotools", "timm", "torchvision", "matplotlib"]
    code = (
        "import sys, detectors, detectors.models.efficientdet.inference, detectors.splits;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True
    )
    assert out.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in detectors.__all__:
        assert hasattr(detectors, name)


def test_training_is_named_as_missing() -> None:
    with pytest.raises(NotImplementedError, match="for_training"):
        efficientdet("d0", image_size=64).for_training()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 0}, "image_size must be positive"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"backbone": "resnet"}, "timm:<name>"),
        ({"anchor_aspects": "round"}, "exact or rounded"),
        ({"nms": "cpu"}, "'device' or 'none'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        efficientdet("d0", **settings)  # type: ignore[arg-type]
