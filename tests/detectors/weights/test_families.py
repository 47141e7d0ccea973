"""Checkpoints of both detectors: their own, Lightning's, and fine-tuning on other classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from torch import Tensor

import detectors
from detectors import efficientdet, faster_rcnn
from detectors.models.efficientdet.inference import EfficientDet
from detectors.models.faster_rcnn.config import CONFIGS
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from detectors.weights import load_checkpoint, load_weights, make_record, save
from detectors.weights.class_head import OtherClassesError
from detectors.weights.family import Detector
from detectors.weights.fit import OtherFormError

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

NAMES = ("cat", "dog", "cow")
MEAN = (103.53, 116.28, 123.675)


def small(num_classes: int = 3, seed: int = 0, **changes: Any) -> FasterRCNN:
    """A ResNet-18 C4 whose every setting differs from the default, all values random."""
    config = CONFIGS["detectron2"]
    config = replace(
        config,
        name="faster_rcnn-r18_c4",
        depth=18,
        num_classes=num_classes,
        image_size=(64, 96),
        norm="batch",
        frozen_stages=1,
        stride_in_1x1=True,
        anchors=replace(config.anchors, sizes=(16, 32)),
        rpn=replace(config.rpn, channels=8, pre_nms=(60, 50), post_nms=(20, 10)),
        mean=MEAN,
        std=(1.0, 1.0, 1.0),
    )
    model = build_faster_rcnn(replace(config, **changes))
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + ("var" in name))
    return model


def state_of(model: Detector) -> Dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def same(one: Dict[str, Tensor], two: Dict[str, Tensor]) -> bool:
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


def lightning_checkpoint(model: Detector, path: Path, **extra: Any) -> Path:
    """What Lightning writes, with our record."""
    content = {
        "epoch": 0,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(2)}}}],
        "loops": {"fit_loop": {}},
        "detectors": make_record(model, NAMES, extra),
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_faster_rcnn_is_loaded_as_it_was_saved(tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    model = small()
    path = save(model, tmp_path / f"a{suffix}", classes=NAMES, extra={"data": {"images": 3}})
    loaded, report = load_checkpoint(path)
    assert isinstance(loaded, FasterRCNN)
    assert loaded.config == model.config
    assert not loaded.training
    assert same(state_of(loaded), state_of(model))
    assert torch.equal(loaded.normalise.mean, model.normalise.mean)
    assert report.class_names == NAMES
    assert report.extra == {"data": {"images": 3}}
    assert report.preprocess.pad == (104, 116, 124)


def test_lightnings_checkpoints_are_read_without_lightning(tmp_path: Path) -> None:
    model = small()
    path = lightning_checkpoint(model, tmp_path / "best.ckpt", fingerprint="ab12")
    assert torch.load(path, weights_only=True)["detectors"]["family"] == "faster_rcnn"
    loaded, report = load_checkpoint(tmp_path)  # the run folder
    assert same(state_of(loaded), state_of(model))
    assert report.class_names == NAMES
    assert report.extra == {"fingerprint": "ab12"}
    assert "optimizer_states" in report.skipped
    other = efficientdet("d0", num_classes=3, image_size=64)
    lightning_checkpoint(other, tmp_path / "best.ckpt")
    again = detectors.load(tmp_path)
    assert isinstance(again, EfficientDet)
    assert same(state_of(again), state_of(other))


def test_a_record_without_a_family_is_an_efficientdets(tmp_path: Path) -> None:
    path = save(efficientdet("d0", num_classes=3, image_size=64), tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    del content["detectors"]["family"]
    torch.save(content, path)
    assert isinstance(detectors.load(path), EfficientDet)
    content["detectors"]["family"] = "yolo"
    torch.save(content, path)
    with pytest.raises(ValueError, match="of the family 'yolo', known are"):
        detectors.load(path)


def test_a_record_keeps_its_own_keys() -> None:
    with pytest.raises(ValueError, match=r"own keys, got \['classes'\]"):
        make_record(small(), NAMES, {"classes": "mine"})
    with pytest.raises(ValueError, match="classes has 2 names, the model 3"):
        make_record(small(), NAMES[:2])


def test_weights_of_the_other_family_are_refused(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="family faster_rcnn; the model is efficientdet-d0"):
        load_weights(efficientdet("d0", num_classes=3, image_size=64), path)


def test_equal_tensors_of_another_form_are_refused(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "a.pt", classes=NAMES)
    anchors = replace(small().config.anchors, sizes=(16, 64))
    with pytest.raises(OtherFormError, match=r"stride_in_1x1 True -> False; anchors\.sizes") as got:
        load_weights(small(stride_in_1x1=False, anchors=anchors), path)
    assert got.value.settings["anchors.sizes"] == (16, 32)
    with pytest.raises(ValueError, match="depth 18 -> 34"):
        load_weights(small(depth=34), path)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_trained_and_frozen_norms_have_the_same_weights(tmp_path: Path, norm: str) -> None:
    model = small(norm="batch" if norm == "frozen" else "frozen")
    path = save(model, tmp_path / "a.pt")
    target = small(seed=1, norm=norm)
    report = load_weights(target, path)
    assert all(name.endswith("num_batches_tracked") for name in report.kept)
    saved = state_of(model)
    after = state_of(target)
    assert all(torch.equal(after[name], saved[name]) for name in set(after) & set(saved))


def test_other_names_or_numbers_of_classes_are_refused(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "a.pt", classes=NAMES)
    target = small(seed=1)
    before = state_of(target)
    for classes in (("cat", "dog", "pig"), ("dog", "cat", "cow")):
        with pytest.raises(OtherClassesError, match=r"3 classes \(cat, dog, cow\); model: 3 \("):
            load_weights(target, path, classes=classes)
    with pytest.raises(OtherClassesError, match="num_classes=3 takes the weights") as caught:
        load_weights(small(4), path)
    assert caught.value.names == NAMES
    assert 'head="map"' not in str(caught.value)  # no name of the model's was given
    with pytest.raises(OtherClassesError, match='head="map" keeps the rows of dog, cat\n') as got:
        load_weights(target, path, classes=("dog", "hen", "cat"))
    assert 'head="new"' in str(got.value)
    assert same(state_of(target), before)
    assert load_weights(target, path, classes=NAMES).class_names == NAMES


def test_shared_classes_keep_their_rows_in_a_mapped_head(tmp_path: Path) -> None:
    source, target = small(3), small(4, seed=1)
    path = save(source, tmp_path / "a.pt", classes=NAMES)
    before, saved = state_of(target), state_of(source)
    report = load_weights(target, path, head="map", classes=("hen", "dog", "pig", "cat"))
    after = state_of(target)
    # labels: dog 1 -> 1, cat 0 -> 3; the background is the last row, 3 -> 4
    for kind in ("weight", "bias"):
        name = f"box_head.class_logits.{kind}"
        expected = [before[name][0], saved[name][1], before[name][2], saved[name][0]]
        assert torch.equal(after[name], torch.stack([*expected, saved[name][3]]))
        name = f"box_head.box_deltas.{kind}"
        assert torch.equal(after[name][4:8], saved[name][4:8])
        assert torch.equal(after[name][12:], saved[name][:4])
        assert torch.equal(after[name][:4], before[name][:4])
        assert torch.equal(after[name][8:12], before[name][8:12])
    assert torch.equal(after["rpn.conv.weight"], saved["rpn.conv.weight"])
    assert report.class_names == ("hen", "dog", "pig", "cat")
    assert "head        rows kept of dog, cat; new: hen, pig" in report.render()
    assert report.brief == "a.pt (detectors), rows kept of dog, cat; new: hen, pig"


def test_nothing_is_mapped_without_a_name_that_both_have(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "a.pt", classes=NAMES)
    target = small(2, seed=1)
    before = state_of(target)
    with pytest.raises(OtherClassesError, match="no name is in both") as caught:
        load_weights(target, path, head="map", classes=("hen", "pig"))
    assert str(caught.value).splitlines() == [
        "weights: 3 classes (cat, dog, cow); model: 2 (hen, pig): no name is in both",
        '  head="new" keeps the features and starts a new class head',
    ]
    with pytest.raises(ValueError, match="give the model's names as classes="):
        load_weights(target, path, head="map")
    assert same(state_of(target), before)


def test_a_new_head_keeps_no_row_even_of_shared_classes(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "a.pt", classes=NAMES)
    target = small(2, seed=1)
    before, saved = state_of(target), state_of(small())
    report = load_weights(target, path, head="new", classes=("cat", "dog"))
    after = state_of(target)
    for name, value in after.items():
        assert torch.equal(value, before[name] if name.startswith("box_head.") else saved[name])
    assert "new         4 tensors keep their random values (box_head." in report.render()
    words = "no row kept; new: cat, dog"
    assert report.brief == f"a.pt (detectors), 4 new tensors (box_head), {words}"


def test_efficientdets_shared_classes_keep_the_rows_of_every_anchor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = efficientdet("d0", num_classes=3, image_size=64)
    target = efficientdet("d0", num_classes=2, image_size=64)
    path = save(source, tmp_path / "a.pt", classes=NAMES)
    name = "class_head.predict.pointwise.weight"
    before, saved = state_of(target)[name], state_of(source)[name]
    load_weights(target, path, head="map", classes=("pig", "cow"))
    after = state_of(target)[name]
    for anchor in range(9):  # rows are anchor by anchor, class by class
        assert torch.equal(after[2 * anchor], before[2 * anchor])
        assert torch.equal(after[2 * anchor + 1], saved[3 * anchor + 2])
    biases = state_of(target)["class_head.predict.pointwise.bias"][0::2].sigmoid()
    torch.testing.assert_close(biases, torch.full((9,), 0.01))  # pig's: the focal loss' prior
    depthwise = "class_head.predict.depthwise.weight"
    assert torch.equal(state_of(target)[depthwise], state_of(source)[depthwise])


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    backbone = faster_rcnn("r18_c4", image_size=64).network.backbone
    torch.save(backbone.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="without a detection head: 10 tensors of faster_rcnn"):
        detectors.load(tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="belongs to the family faster_rcnn"):
        load_weights(efficientdet("d0", image_size=64), tmp_path / "resnet18.pth", head="new")
