"""An EfficientNet classifier's features in an EfficientDet; what pads otherwise is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import load_weights
from detectors.weights.effdet import to_effdet

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


@pytest.fixture
def features(model: EfficientDet) -> Dict[str, Tensor]:
    """The shared detector's features and a last layer, in timm's names."""
    theirs = to_effdet(model.network.state_dict(), model.config)
    state = {k[len("backbone.") :]: v for k, v in theirs.items() if k.startswith("backbone.")}
    return {**state, "conv_head.weight": torch.zeros(1), "classifier.weight": torch.zeros(1)}


def saved(path: Path, state: Dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def test_timms_classifier_gives_timms_features(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_b0", pretrained=False).eval()
    for name, value in theirs.named_buffers():  # norms that do something
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) + (0.5 if name.endswith("var") else 0))
    path = saved(tmp_path / "tf_efficientnet_b0.pth", theirs.state_dict())
    model = efficientdet("d0", num_classes=3, image_size=64)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    report = load_weights(model, path, head="new", classes=("cat", "dog", "cow"))

    extractor = timm.create_model("tf_efficientnet_b0", pretrained=False, features_only=True)
    extractor.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.randn(2, 3, 75, 64)  # a height at which padding is uneven
    with torch.no_grad():
        expected = extractor.eval()(images)[-3:]
        got = model.eval().network.backbone(images)
    assert [tuple(one.shape) for one in got] == [tuple(one.shape) for one in expected]
    for ours, wanted in zip(got, expected):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)

    after = model.network.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if not n.startswith("backbone."))
    assert report.class_names == ("cat", "dog", "cow")
    assert set(report.skipped) == {
        n for n in theirs.state_dict() if n.startswith(("conv_head.", "bn2.", "classifier."))
    }
    assert report.preprocess.name == "imagenet"
    assert report.anchor_aspects == "exact"
    assert "padding as TensorFlow's assumed" in report.render()
    new = len([n for n in before if not n.startswith("backbone.") and "num_batches" not in n])
    assert report.brief == (
        f"tf_efficientnet_b0.pth (imagenet), {new} new tensors (bifpn, box_head, class_head)"
    )


def test_the_features_of_another_size_are_named(
    features: Dict[str, Tensor], tmp_path: Path
) -> None:
    path = saved(tmp_path / "tf.pth", features)
    words = "holds the features of efficientnet-b0; efficientdet-d1 has those of efficientnet-b1"
    with pytest.raises(ValueError, match=words):
        load_weights(efficientdet("d1", image_size=64), path, head="new")
    del features["blocks.3.0.bn1.weight"]
    with pytest.raises(ValueError, match=r"does not fit efficientdet-d0:\n.* tensors missing"):
        load_weights(
            efficientdet("d0", image_size=64), saved(tmp_path / "cut.pth", features), head="new"
        )


def test_our_own_features_are_taken_by_their_names(model: EfficientDet, tmp_path: Path) -> None:
    path = saved(tmp_path / "own.pth", model.network.backbone.state_dict())
    target = efficientdet("d0", num_classes=2, image_size=64)
    load_weights(target, path, head="new")
    ours, theirs = target.network.backbone.state_dict(), model.network.backbone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_networks_that_pad_alike_on_all_sides_are_refused(
    model: EfficientDet, features: Dict[str, Tensor], tmp_path: Path
) -> None:
    even = {"features.0.0.weight": torch.zeros(1), "features.1.0.block.0.0.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="torchvision's EfficientNet, which pads alike on all"):
        load_weights(model, saved(tmp_path / "efficientnet_b0_rwightman.pth", even), head="new")
    with pytest.raises(ValueError, match=r"timm's own EfficientNet, .* takes timm's tf_effi"):
        load_weights(model, saved(tmp_path / "efficientnet_b0_ra.pth", features), head="new")


def test_torchvisions_names_are_those_that_are_refused() -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        names = set(models.efficientnet_b0(weights=None).state_dict())
    assert {"features.0.0.weight", "features.1.0.block.0.0.weight"} <= names


def test_a_classifier_has_no_rows_to_map(
    model: EfficientDet, features: Dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='no rows of classes for head="map"'):
        load_weights(model, saved(tmp_path / "tf.pth", features), head="map", classes=("cat",))


def test_lite_features_bring_their_normalisation(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    model = efficientdet("lite0", image_size=64)
    report = load_weights(model, saved(tmp_path / "lite.pth", state), head="new")
    assert report.preprocess.mean == (127.5, 127.5, 127.5)
    assert model.config.mean == (127.5, 127.5, 127.5)
