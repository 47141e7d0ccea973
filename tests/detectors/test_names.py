"""The package's front door: names and settings."""

from __future__ import annotations

import pytest

import detectors
from detectors import MODELS, efficientdet, faster_rcnn, model_name
from detectors.models.efficientdet.config import CONFIGS


def test_every_name_has_a_configuration() -> None:
    assert tuple(CONFIGS) == MODELS


@pytest.mark.parametrize(
    "text", ["d2", "D2", "efficientdet-d2", "efficientdet_d2", "EfficientDet-D2"]
)
def test_a_model_has_many_spellings(text: str) -> None:
    assert model_name(text) == "efficientdet-d2"


@pytest.mark.parametrize(
    "text", ["r50_c4", "R50-C4", "faster_rcnn-r50_c4", "Faster-RCNN-R50-C4", "faster_rcnn_r50_c4"]
)
def test_faster_rcnn_has_many_spellings_too(text: str) -> None:
    assert model_name(text) == "faster_rcnn-r50_c4"


def test_each_builder_makes_its_own_models() -> None:
    with pytest.raises(ValueError, match="no EfficientDet 'r50_c4'"):
        efficientdet("r50_c4")
    with pytest.raises(ValueError, match="no Faster R-CNN 'd0'"):
        faster_rcnn("d0")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("r50_fpn", "faster_rcnn-r50_c4"),
        ("faster_rcnn-r51_c4", "faster_rcnn-r50_c4"),
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


def test_a_wrong_name_gets_the_list_too() -> None:
    with pytest.raises(ValueError, match=r"did you mean .*\nmodels are efficientdet-d0, "):
        model_name("efficientdet-d9")


def test_public_names_exist() -> None:
    for name in detectors.__all__:
        assert hasattr(detectors, name)


def test_the_training_module_has_the_models_own_network() -> None:
    model = efficientdet("d0", image_size=64)
    training = model.for_training()
    assert training.network is model.network
    assert training.training
    assert len(training.anchors()) == len(model.postprocess.anchors())


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
