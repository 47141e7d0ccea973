"""effdet's state dicts go into our models and back; names, shapes and outputs agree with effdet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.config import CONFIGS
from detectors.models.efficientdet.inference import EfficientDet
from detectors.models.efficientdet.network import build_network
from detectors.weights import load_weights, save
from detectors.weights.effdet import effdet_name, swap_box_axes


def _peer(effdet: Any, name: str) -> Any:
    """effdet's network of the same name for 128 px, without its backbone's download."""
    config = effdet.get_efficientdet_config(f"tf_efficientdet_{name}")
    config.image_size = (128, 128)
    return effdet.EfficientDet(config, pretrained_backbone=False).eval()


def _theirs(model: EfficientDet) -> Dict[str, Tensor]:
    """The tensors of a model of ours as effdet's file would hold them."""
    state = swap_box_axes(model.network.state_dict())
    return {effdet_name(name, model.config): value for name, value in state.items()}


@pytest.mark.parametrize("name", ["d0", "d3", "d6", "d7x", "lite0"])
def test_every_tensor_has_one_of_effdet_s_and_of_its_shape(effdet: Any, name: str) -> None:
    with torch.device("meta"):
        config = CONFIGS[f"efficientdet-{name}"]
        ours = build_network(config).state_dict()
        theirs = _peer(effdet, name).state_dict()
    renamed = {effdet_name(key, config): value.shape for key, value in ours.items()}
    assert len(renamed) == len(ours)
    assert renamed == {key: value.shape for key, value in theirs.items()}


def test_box_channels_swap_y_and_x_within_each_anchor() -> None:
    bias = torch.arange(8.0)  # two anchors of (ty, tx, th, tw)
    weight = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 5, 1, 1)
    state = {
        "box_head.predict.pointwise.bias": bias,
        "box_head.predict.pointwise.weight": weight,
        "class_head.predict.pointwise.bias": bias,
    }
    swapped = swap_box_axes(state)
    assert swapped["box_head.predict.pointwise.bias"].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert swapped["box_head.predict.pointwise.weight"][:, 4, 0, 0].tolist() == [
        1,
        0,
        3,
        2,
        5,
        4,
        7,
        6,
    ]
    assert torch.equal(swapped["class_head.predict.pointwise.bias"], bias)
    assert torch.equal(swap_box_axes(swapped)["box_head.predict.pointwise.weight"], weight)


def test_a_pth_of_effdet_comes_back_bit_for_bit(
    effdet: Any, model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    peer = _peer(effdet, "d0")
    peer.load_state_dict(_theirs(model))  # strict
    torch.save(peer.state_dict(), tmp_path / "d0.pth")

    report = load_weights(blank, tmp_path / "d0.pth")
    again = torch.load(save(blank, tmp_path / "again.pth", layout="effdet"), weights_only=True)
    assert report.num_tensors == len(again) == 784
    assert list(again) == list(dict.fromkeys(again))
    for name, tensor in peer.state_dict().items():
        assert torch.equal(again[name], tensor), name
    peer.load_state_dict(again)


def test_outputs_equal_effdet_s_with_axes_swapped(
    effdet: Any, model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    peer = _peer(effdet, "d0")
    peer.load_state_dict(_theirs(model))
    torch.save(peer.state_dict(), tmp_path / "d0.pth")
    load_weights(blank, tmp_path / "d0.pth")

    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        logits, deltas = blank.network(images)
        their_logits, their_deltas = peer(images)
    for ours, theirs, order in (
        (logits, their_logits, list(range(90))),
        (deltas, their_deltas, [1, 0, 3, 2]),
    ):
        ours = torch.cat(ours, dim=1)  # (B, N, outputs)
        theirs = torch.cat(_anchor_rows(theirs, len(order)), dim=1)[..., order]
        assert ours.std() > 0
        assert (ours - theirs).abs().max() < 1e-4 * theirs.std()


def _anchor_rows(maps: List[Tensor], outputs: int) -> List[Tensor]:
    """(B, A * outputs, H, W) -> (B, H * W * A, outputs) for each level."""
    return [x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, outputs) for x in maps]


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.module."])
def test_wrappers_prefixes_and_anchors_are_left_behind(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path, prefix: str
) -> None:
    wrapped = {prefix + name: value for name, value in _theirs(model).items()}
    wrapped["anchors.boxes"] = torch.zeros(5, 4)  # of effdet's benches
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "bench.pth")
    report = load_weights(blank, tmp_path / "bench.pth")
    assert report.origin == "effdet"
    assert report.skipped == ("anchors.boxes",)
    _assert_equal_networks(blank, model)


def test_the_moving_average_comes_first_and_is_said(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    raw = _theirs(blank)
    torch.save({"state_dict": raw, "state_dict_ema": _theirs(model)}, tmp_path / "both.pth")
    target = efficientdet("d0", image_size=128)
    report = load_weights(target, tmp_path / "both.pth")
    _assert_equal_networks(target, model)
    assert "moving average (EMA), from 'state_dict_ema'" in report.render()
    report = load_weights(target, tmp_path / "both.pth", ema=False)
    _assert_equal_networks(target, blank)
    assert "'state_dict'" in report.render()


def test_loading_binds_normalisation_anchors_and_names(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    exact = blank.postprocess.anchors.boxes.clone()
    torch.save(_theirs(model), tmp_path / "d0_ap-00000000.pth")
    report = load_weights(blank, tmp_path / "d0_ap-00000000.pth")
    assert report.preprocess.name == "advprop"
    assert blank.config.mean == blank.config.std == (127.5, 127.5, 127.5)
    assert blank.config.anchor_aspects == report.anchor_aspects == "rounded"  # 1.4 and 0.7
    assert not torch.equal(blank.postprocess.anchors.boxes, exact)
    white = blank.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.ones(1, 3, 2, 2))
    assert report.class_names is not None
    assert report.class_names[0] == "person"
    assert len(report.class_names) == 90


def test_normalisation_can_be_asked_for(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    torch.save(_theirs(model), tmp_path / "d0.pth")
    assert "imagenet normalisation assumed" in load_weights(blank, tmp_path / "d0.pth").render()
    report = load_weights(blank, tmp_path / "d0.pth", preprocess="advprop")
    assert blank.config.mean == (127.5, 127.5, 127.5)
    assert "preprocess=advprop as asked for" in report.render()
    with pytest.raises(ValueError, match="preprocess must be one of"):
        load_weights(blank, tmp_path / "d0.pth", preprocess="caffe")


def _assert_equal_networks(ours: EfficientDet, other: EfficientDet) -> None:
    state = ours.network.state_dict()
    for name, tensor in other.network.state_dict().items():
        assert torch.equal(state[name], tensor), name
