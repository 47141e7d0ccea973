"""Weights of others in a Faster R-CNN: random ones in each layout, and what is refused."""

from __future__ import annotations

import collections
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import torch
from torch import Tensor

from detectors.layers import FrozenBatchNorm2d
from detectors.models.faster_rcnn.config import CONFIGS
from detectors.models.faster_rcnn.inference import FasterRCNN, build_faster_rcnn
from detectors.weights import load_weights
from detectors.weights.caffe_resnet import detectron2_name, from_msra, msra_name
from detectors.weights.numpy_pickle import read_numpy_pickle

State = Dict[str, Tensor]
IMAGENET_MEAN = (123.675, 116.28, 103.53)


def detector(variant: str = "detectron2", **changes: Any) -> FasterRCNN:
    """A narrow box head and small pictures; the backbone is whole."""
    config = CONFIGS[variant]
    config = replace(config, rpn=replace(config.rpn, channels=8), image_size=(64, 64), **changes)
    return build_faster_rcnn(config)


def random_state(model: FasterRCNN, part: str = "") -> State:
    """Random values for each tensor whose name starts so, without that start."""
    generator = torch.Generator().manual_seed(1)
    return {
        name[len(part) :]: torch.rand(value.shape, generator=generator) + 0.1
        for name, value in model.network.state_dict().items()
        if name.startswith(part)
    }


def backbone_equals(model: FasterRCNN, expected: State, bgr: bool) -> bool:
    own = model.network.backbone.state_dict()
    expected = {name: value for name, value in expected.items() if name in own}
    if bgr:
        expected["conv1.weight"] = expected["conv1.weight"].flip(1)
    return set(own) == set(expected) and all(torch.equal(own[n], expected[n]) for n in own)


def test_torchvisions_classifier_fills_the_backbone(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(3)
    state = models.resnet18(weights=None).state_dict()
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(state, path)
    model = detector("seed", depth=18)
    with pytest.raises(ValueError, match=r"10 tensors .*\(box_head, rpn\) would be missing"):
        load_weights(model, path)
    report = load_weights(model, path, head="new")
    assert backbone_equals(model, state, bgr=False)
    assert report.origin == "torchvision"
    assert report.skipped == ("fc.weight", "fc.bias")
    assert sorted({name.split(".")[0] for name in report.kept}) == ["box_head", "rpn"]
    assert len(report.kept) == 10
    assert "10 tensors of the detector are not in a classifier" in report.render()
    assert model.config.mean == IMAGENET_MEAN
    assert model.config.std == (58.395, 57.12, 57.375)


def test_timms_resnet_has_the_same_names(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    model = detector("seed", depth=18)
    report = load_weights(model, tmp_path / "resnet18.pth", origin="timm", head="new")
    assert report.origin == "timm"
    assert backbone_equals(model, state, bgr=False)


@pytest.mark.parametrize("origin", [None, "caffe"])
def test_caffes_weights_turn_the_colours_round(tmp_path: Path, origin: Optional[str]) -> None:
    model = detector("seed", depth=18, stride_in_1x1=True)
    state = random_state(model, "backbone.")
    path = tmp_path / ("resnet18.pth" if origin else "resnet18-caffe.pth")
    torch.save(state, path)
    report = load_weights(model, path, origin=origin, head="new")
    assert report.origin == "caffe"
    assert backbone_equals(model, state, bgr=True)
    assert model.config.mean == (122.7717, 115.9465, 102.9801)
    assert model.config.std == (1.0, 1.0, 1.0)


def msra_layout(state: State) -> Dict[str, Any]:
    """A backbone's state as Caffe2 names it."""
    branches = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "bn1": "2a", "bn2": "2b", "bn3": "2c"}
    parts = {"weight": "gamma", "bias": "beta"}
    out: Dict[str, Any] = {"fc1000_w": torch.zeros(10, 4).numpy()}
    for name, value in state.items():
        words = name.split(".")
        kind = words[-1]
        is_norm = "bn" in words[-2] or words[-2:-1] == ["1"]
        end = f"bn_{parts.get(kind, kind)}" if is_norm else "w"
        if words[0] in ("conv1", "bn1"):
            out[f"res_conv1_{end}" if is_norm else "conv1_w"] = value.numpy()
            continue
        branch = "1" if words[2] == "downsample" else branches[words[2]]
        out[f"res{int(words[0][5:]) + 1}_{words[1]}_branch{branch}_{end}"] = value.numpy()
    return out


def test_msras_pickle_fills_the_backbone(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    model = detector("detectron2", stride_in_1x1=True)
    state = random_state(model, "backbone.")
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": msra_layout(state)}, protocol=2))
    report = load_weights(model, path, head="new")
    assert report.origin == "msra"
    assert backbone_equals(model, state, bgr=True)
    assert report.skipped == ("fc1000_w",)
    assert model.config.mean == IMAGENET_MEAN
    assert model.config.std == (1.0, 1.0, 1.0)


def test_norms_without_statistics_are_scale_and_shift() -> None:
    names = {"conv1_w": torch.ones(2, 3, 7, 7), "res_conv1_bn_s": torch.tensor([2.0, 3.0])}
    state = from_msra({**names, "res_conv1_bn_b": torch.tensor([4.0, 5.0])})
    norm = FrozenBatchNorm2d(2)
    norm.load_state_dict({name[4:]: v for name, v in state.items() if name.startswith("bn1.")})
    out = norm(torch.ones(1, 2, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([6.0, 8.0]))  # 2 + 4, 3 + 5


def detectron2_layout(state: State) -> Dict[str, Any]:
    """Our network's state as detectron2 names it."""
    heads = {
        "rpn": "proposal_generator.rpn_head",
        "box_head.class_logits": "roi_heads.box_predictor.cls_score",
        "box_head.box_deltas": "roi_heads.box_predictor.bbox_pred",
    }
    out: Dict[str, Any] = {"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(15, 4)}
    for name, value in state.items():
        for ours, theirs in heads.items():
            if name.startswith(ours):
                out[theirs + name[len(ours) :]] = value
        words = name.split(".")
        if words[0] != "backbone":
            continue
        if words[1] in ("conv1", "bn1"):
            out[f"backbone.stem.conv1{'.norm' * (words[1] == 'bn1')}.{words[2]}"] = value
            continue
        stage = int(words[1][5:]) + 1
        module = {"downsample": "shortcut"}.get(words[3], words[3].replace("bn", "conv"))
        norm = words[3].startswith("bn") or words[3:5] == ["downsample", "1"]
        root = "roi_heads" if stage == 5 else "backbone"
        end = f"{module}{'.norm' * norm}.{words[-1]}"
        out[f"{root}.res{stage}.{words[2]}.{end}"] = value
    return {name: value.numpy() for name, value in out.items()}


def test_detectron2s_detector_fills_the_whole_network(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    model = detector("detectron2", stride_in_1x1=True)
    state = random_state(model)
    path = tmp_path / "model_final_b1acc2.pkl"
    content = {"model": detectron2_layout(state), "__author__": "Detectron2 Model Zoo"}
    path.write_bytes(pickle.dumps(content, protocol=4))
    report = load_weights(model, path)
    assert (report.origin, report.kept) == ("detectron2", ())
    assert report.class_names is not None
    assert report.class_names[::19] == ("aeroplane", "tvmonitor")
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].flip(1)
    own = model.network.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)


def test_names_that_people_know() -> None:
    assert msra_name("res4_5_branch2b_bn_running_var") == "layer3.5.bn2.running_var"
    assert msra_name("res2_0_branch1_w") == "layer1.0.downsample.0.weight"
    assert msra_name("fc1000_b") is None
    name = "roi_heads.res5.0.shortcut.norm.running_mean"
    assert detectron2_name(name) == "backbone.layer4.0.downsample.1.running_mean"


@pytest.mark.parametrize(
    ("variant", "in_1x1", "message"),
    [
        ("seed", True, "build it with variant='detectron2'"),
        ("detectron2", False, "build it with stride_in_1x1=True"),
    ],
)
def test_another_form_of_model_is_refused(
    tmp_path: Path, variant: str, in_1x1: bool, message: str
) -> None:
    pytest.importorskip("numpy")
    path = tmp_path / "model.pkl"
    stem = torch.zeros(64, 3, 7, 7).numpy()
    path.write_bytes(pickle.dumps({"model": {"backbone.stem.conv1.weight": stem}}))
    with pytest.raises(ValueError, match=message):
        load_weights(detector(variant, depth=18, stride_in_1x1=in_1x1), path)


def saved(folder: Path, state: State) -> Path:
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model = detector("seed", depth=18)
    state = random_state(model, "backbone.")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    del state["layer3.1.conv2.weight"]
    state["layer5.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(65)
    lines = (
        "1 tensors missing: backbone.layer3.1.conv2.weight",
        "1 tensors unknown to the model: backbone.layer5.weight",
        r"1 of another shape: backbone.bn1.bias \(65,\), the model has \(64,\)",
    )
    with pytest.raises(ValueError, match=r"does not fit.*\n  " + r"\n  ".join(lines)):
        load_weights(model, saved(tmp_path, state), head="new")
    state = random_state(model, "backbone.")
    state["bn1.weight"][0] = float("nan")
    with pytest.raises(ValueError, match=r"1 tensors hold inf or nan, .* backbone\.bn1\.weight"):
        load_weights(model, saved(tmp_path, state), head="new")
    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_unknown_tensors_and_origins_are_refused(tmp_path: Path) -> None:
    model = detector("seed", depth=18)
    path = saved(tmp_path, {"a.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"unknown origin; its 1 tensors are \['a.weight'\]"):
        load_weights(model, path)
    names = ("conv1.weight", "layer1.0.conv1.weight")
    path = saved(tmp_path, {name: torch.zeros(1) for name in names})
    with pytest.raises(ValueError, match=r"origin must be one of .*'caffe'.*got 'msra'"):
        load_weights(model, path, origin="msra")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(model, tmp_path / "none.pkl")


class Harm:
    """What an evil pickle looks like."""

    def __reduce__(self) -> Any:
        return os.system, ("echo harm",)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": {"conv1_w": Harm()}}))
    with pytest.raises(ValueError, match=r"holds more than arrays and plain values.*system"):
        read_numpy_pickle(path)
    path.write_bytes(pickle.dumps(collections.Counter("a")))
    with pytest.raises(ValueError, match=r"collections\.Counter"):
        read_numpy_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "arrays.pkl"
    arrays = {"a": numpy.arange(6, dtype="float32").reshape(2, 3), "epoch": 3, "by": "someone"}
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    found = read_numpy_pickle(path)
    assert list(found) == ["a"]
    assert found["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04noise", b"not a pickle at all", b"\x80\x04K\x01."]
)
def test_what_is_no_dict_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("numpy")
    path = tmp_path / "noise.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|holds a int, expected named arrays"):
        read_numpy_pickle(path)
