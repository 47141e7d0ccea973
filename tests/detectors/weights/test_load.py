"""What does not fit is refused with the reason, and the model stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import load_weights, save
from detectors.weights.effdet import to_effdet


@pytest.fixture
def effdet_file(model: EfficientDet, tmp_path: Path) -> Path:
    return save(model, tmp_path / "d0.pth", layout="effdet")


def _state(model: EfficientDet) -> Dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def _assert_untouched(model: EfficientDet, before: Dict[str, Tensor]) -> None:
    assert all(torch.equal(value, before[name]) for name, value in _state(model).items())


def test_another_number_of_classes_is_refused_with_both_and_the_ways_on(effdet_file: Path) -> None:
    target = efficientdet("d0", num_classes=3, image_size=128)
    before = _state(target)
    with pytest.raises(ValueError, match="weights: 90 classes") as caught:
        load_weights(target, effdet_file)
    message = str(caught.value)
    assert "person … toothbrush" in message
    assert "model: 3" in message
    assert 'head="new"' in message
    assert "num_classes=90" in message
    _assert_untouched(target, before)


def test_a_new_head_keeps_the_last_class_layer_only(model: EfficientDet, effdet_file: Path) -> None:
    target = efficientdet("d0", num_classes=3, image_size=128)
    before = _state(target)
    report = load_weights(target, effdet_file, head="new")
    after, wanted = _state(target), _state(model)
    for name, value in after.items():
        source = before if name.startswith("class_head.predict.") else wanted
        assert torch.equal(value, source[name]), name
    assert report.class_names is None
    assert "new         3 tensors keep their random values (class_head.predict." in report.render()


def test_head_is_none_new_or_map(model: EfficientDet, effdet_file: Path) -> None:
    with pytest.raises(ValueError, match="head must be None, 'new' or 'map', got 'old'"):
        load_weights(model, effdet_file, head="old")


def test_another_model_is_named(effdet_file: Path) -> None:
    target = efficientdet("d1", image_size=128)
    before = _state(target)
    with pytest.raises(
        ValueError, match=r"holds the weights of efficientdet-d0; .*efficientdet-d1"
    ):
        load_weights(target, effdet_file)
    _assert_untouched(target, before)


def test_missing_unknown_and_misshapen_tensors_are_listed(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    state = to_effdet(_state(model), model.config)
    del state["backbone.bn1.weight"]
    state["backbone.conv_head.weight"] = torch.zeros(1)
    state["fpn.resample.3.conv.conv.bias"] = torch.zeros(63)
    torch.save(state, tmp_path / "odd.pth")
    before = _state(blank)
    with pytest.raises(ValueError, match="does not fit efficientdet-d0") as caught:
        load_weights(blank, tmp_path / "odd.pth")
    message = str(caught.value)
    assert "1 tensors missing: backbone.stem.norm.weight" in message
    assert "1 tensors unknown to the model: backbone.conv_head.weight" in message
    assert "extra_levels.0.project.conv.bias (63,), the model has (64,)" in message
    assert len(message.splitlines()) <= 6
    _assert_untouched(blank, before)


def test_values_that_are_no_numbers_are_refused(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    state = to_effdet(_state(model), model.config)
    state["backbone.conv_stem.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    before = _state(blank)
    with pytest.raises(ValueError, match="1 tensors hold inf or nan, the first is backbone"):
        load_weights(blank, tmp_path / "nan.pth")
    _assert_untouched(blank, before)


def test_imagenet_weights_have_no_detection_head(model: EfficientDet, tmp_path: Path) -> None:
    state = to_effdet(_state(model), model.config)
    plain = {k[len("backbone.") :]: v for k, v in state.items() if k.startswith("backbone.")}
    plain["classifier.weight"] = torch.zeros(1000, 1280)
    torch.save(plain, tmp_path / "tf_efficientnet_b0.pth")
    missing = sum(not k.startswith("backbone.") and "num_batches" not in k for k in state)
    with pytest.raises(ValueError, match=f"without a detection head: {missing} tensors"):
        load_weights(model, tmp_path / "tf_efficientnet_b0.pth")


def test_weights_of_unknown_origin_are_shown(model: EfficientDet, tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"unknown origin; its 2 tensors are \['fc.bias'"):
        load_weights(model, tmp_path / "x.pth")


def test_half_precision_is_widened_and_said(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in _state(model).items()}
    torch.save(to_effdet(state, model.config), tmp_path / "half.pth")
    report = load_weights(blank, tmp_path / "half.pth")
    after = _state(blank)
    assert all(
        torch.equal(after[name], value.to(after[name].dtype)) for name, value in state.items()
    )
    assert after["backbone.stem.conv.weight"].dtype == torch.float32
    assert "from float16" in report.converted


def test_nothing_there_is_a_missing_file(model: EfficientDet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pth"):
        load_weights(model, tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="is a folder without a checkpoint"):
        load_weights(model, tmp_path)


def test_the_report_fits_one_screen(blank: EfficientDet, effdet_file: Path) -> None:
    report = load_weights(blank, effdet_file)
    text = report.render()
    assert len(text.splitlines()) <= 12
    assert max(map(len, text.splitlines())) <= 120
    assert report.sha256 in text
    assert "784 used" in text
    assert "0 missing, 0 mismatched, 0 skipped" in text
    assert "box channels from y, x to x, y" in text
    assert "80 names (person … toothbrush)" in text
