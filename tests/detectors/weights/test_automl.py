"""AutoML's TensorFlow checkpoints: names, layouts, averages, tarballs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.config import CONFIGS
from detectors.models.efficientdet.inference import EfficientDet
from detectors.models.efficientdet.network import build_network
from detectors.weights import load_weights
from detectors.weights.automl import choose_copies, sources
from detectors.weights.crc32c import crc32c, masked
from detectors.weights.effdet import swap_box_axes

WriteBundle = Callable[..., Path]
EMA = "/ExponentialMovingAverage"


def _fast_checksum(data: bytes) -> int:
    return masked(crc32c(data))


def _variables(model: EfficientDet) -> Dict[str, Tensor]:
    """A model's tensors as AutoML would save them."""
    state = swap_box_axes(model.network.state_dict())
    variables: Dict[str, Tensor] = {}
    for name, source in sources(state, model.config).items():
        value = state[name]
        if name.endswith("edge_weights"):
            variables.update(zip(source.variables, value))
        elif value.dim() == 4:
            back = (2, 3, 0, 1) if "depthwise_kernel" in source.variables[0] else (2, 3, 1, 0)
            variables[source.variables[0]] = value.permute(back)
        else:
            variables[source.variables[0]] = value
    return variables


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("d0", 709),
        ("d1", 912),
        ("d2", 987),
        ("d3", 1165),
        ("d4", 1354),
        ("d6", 1565),
        ("d7x", 1902),
    ],
)
def test_every_variable_of_the_published_checkpoints_is_claimed_once(name: str, count: int) -> None:
    config = CONFIGS[f"efficientdet-{name}"]  # counts: tensors in Google's files without averages
    with torch.device("meta"):
        names = build_network(config).state_dict()
    claimed = [v for source in sources(names, config).values() for v in source.variables]
    assert len(claimed) == len(set(claimed)) == count


NAMES = {
    "backbone.stem": {
        "conv.weight": "efficientnet-b0/stem/conv2d/kernel",
        "norm.running_var": "efficientnet-b0/stem/tpu_batch_normalization/moving_variance",
    },
    "backbone.stages.0.0": {  # does not expand: its layers are numbered from the depthwise on
        "depthwise.conv.weight": "efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel",
        "depthwise.norm.weight": "efficientnet-b0/blocks_0/tpu_batch_normalization/gamma",
        "squeeze.reduce.bias": "efficientnet-b0/blocks_0/se/conv2d/bias",
        "project.conv.weight": "efficientnet-b0/blocks_0/conv2d/kernel",
        "project.norm.bias": "efficientnet-b0/blocks_0/tpu_batch_normalization_1/beta",
    },
    "backbone.stages.2.1": {  # the fifth block
        "expand.conv.weight": "efficientnet-b0/blocks_4/conv2d/kernel",
        "expand.norm.weight": "efficientnet-b0/blocks_4/tpu_batch_normalization/gamma",
        "depthwise.norm.weight": "efficientnet-b0/blocks_4/tpu_batch_normalization_1/gamma",
        "squeeze.expand.weight": "efficientnet-b0/blocks_4/se/conv2d_1/kernel",
    },
    "backbone.stages.6.0.project": {  # the last
        "conv.weight": "efficientnet-b0/blocks_15/conv2d_1/kernel",
        "norm.running_mean": "efficientnet-b0/blocks_15/tpu_batch_normalization_2/moving_mean",
    },
    "bifpn.extra_levels.0.project": {
        "conv.bias": "resample_p6/conv2d/bias",
        "norm.weight": "resample_p6/bn/gamma",
    },
    "bifpn.cells.0.nodes": {
        "1.inputs.0.conv.weight": "fpn_cells/cell_0/fnode1/resample_0_2_6/conv2d/kernel",
        "2.inputs.0.norm.bias": "fpn_cells/cell_0/fnode2/resample_0_1_7/bn/beta",
        "3.inputs.0.conv.bias": "fpn_cells/cell_0/fnode3/resample_0_0_8/conv2d/bias",
        "4.inputs.0.conv.bias": "fpn_cells/cell_0/fnode4/resample_0_1_9/conv2d/bias",
        "5.inputs.0.conv.bias": "fpn_cells/cell_0/fnode5/resample_0_2_10/conv2d/bias",
    },
    "bifpn.cells.2.nodes.7": {
        "conv.depthwise.weight": "fpn_cells/cell_2/fnode7/op_after_combine12/conv/depthwise_kernel",
        "conv.pointwise.bias": "fpn_cells/cell_2/fnode7/op_after_combine12/conv/bias",
        "norm.weight": "fpn_cells/cell_2/fnode7/op_after_combine12/bn/gamma",
    },
    "class_head": {
        "convs.2.pointwise.weight": "class_net/class-2/pointwise_kernel",
        "norms.2.4.bias": "class_net/class-2-bn-7/beta",
        "predict.depthwise.weight": "class_net/class-predict/depthwise_kernel",
    },
    "box_head": {
        "norms.0.0.weight": "box_net/box-0-bn-3/gamma",
        "predict.pointwise.bias": "box_net/box-predict/bias",
    },
}


@pytest.mark.parametrize("module", NAMES)
def test_names_of_every_kind_in_d0(module: str) -> None:
    expected = {f"{module}.{leaf}": (theirs,) for leaf, theirs in NAMES[module].items()}
    found = sources(expected, CONFIGS["efficientdet-d0"])
    assert {name: source.variables for name, source in found.items()} == expected


def test_fusion_weights_are_scalars_in_the_order_of_the_inputs() -> None:
    name = "bifpn.cells.1.nodes.4.fusion.edge_weights"
    scope = "fpn_cells/cell_1/fnode4/"
    assert sources([name], CONFIGS["efficientdet-d0"])[name].variables == (
        scope + "WSM",
        scope + "WSM_1",
        scope + "WSM_2",
    )


def test_d7x_has_one_level_more() -> None:
    expected = {
        "bifpn.cells.0.nodes.2.inputs.0.conv.bias": "fnode2/resample_0_2_8/conv2d/bias",
        "bifpn.cells.0.nodes.6.inputs.0.conv.bias": "fnode6/resample_0_2_12/conv2d/bias",
        "class_head.norms.4.5.bias": "class_net/class-4-bn-8/beta",
    }
    for ours, theirs in expected.items():
        (variable,) = sources([ours], CONFIGS["efficientdet-d7x"])[ours].variables
        assert variable.endswith(theirs)


@pytest.fixture(scope="module")
def folder(
    model: EfficientDet, tmp_path_factory: pytest.TempPathFactory, write_bundle: WriteBundle
) -> Path:
    """A checkpoint of `model`, with a step counter and an optimizer's slot."""
    variables = _variables(model)
    variables["global_step"] = torch.tensor(7, dtype=torch.int64)
    variables["class_net/class-predict/bias/Momentum"] = torch.zeros(810)
    return write_bundle(tmp_path_factory.mktemp("d0") / "model", variables, _fast_checksum).parent


def test_a_checkpoint_fills_a_model_exactly(
    model: EfficientDet, blank: EfficientDet, folder: Path
) -> None:
    report = load_weights(blank, folder)
    _assert_equal_networks(blank, model)
    assert report.origin == "automl"
    assert report.num_tensors == 676  # 709 variables, of which 57 are fusion weights of 24 nodes
    assert report.skipped == ("class_net/class-predict/bias/Momentum", "global_step")
    assert report.anchor_aspects == blank.config.anchor_aspects == "exact"
    assert all(name.endswith("num_batches_tracked") for name in report.kept)
    assert "raw weights; the file holds no moving average" in report.render()
    assert len(report.render().splitlines()) <= 12


def test_cocos_names_are_bound_and_map_rows(model: EfficientDet, folder: Path) -> None:
    target = efficientdet("d0", num_classes=3, image_size=64)
    report = load_weights(target, folder, head="map", classes=("dog", "hen", "person"))
    assert report.head == "rows kept of dog, person; new: hen"
    name = "class_head.predict.pointwise.weight"
    ours = target.network.state_dict()[name].reshape(9, 3, -1)
    theirs = model.network.state_dict()[name].reshape(9, 90, -1)
    assert torch.equal(ours[:, [0, 2]], theirs[:, [17, 0]])  # COCO's ids, less one


def test_kernels_are_turned_from_height_width_in_out(
    model: EfficientDet, blank: EfficientDet, folder: Path
) -> None:
    variables = _variables(model)
    stem = variables["efficientnet-b0/stem/conv2d/kernel"]
    depth = variables["efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel"]
    boxes = variables["box_net/box-predict/bias"]
    assert stem.shape == (3, 3, 3, 32)  # height, width, RGB, channels
    assert depth.shape == (3, 3, 32, 1)
    load_weights(blank, folder / "model")
    state = blank.network.state_dict()
    assert state["backbone.stem.conv.weight"][5, 2, 0, 1] == stem[0, 1, 2, 5]
    assert state["backbone.stages.0.0.depthwise.conv.weight"][9, 0, 2, 1] == depth[2, 1, 9, 0]
    dx, dy, dw, dh = state["box_head.predict.pointwise.bias"][:4]
    assert [dy, dx, dh, dw] == boxes[:4].tolist()  # theirs: ty, tx, th, tw


def test_the_moving_average_is_taken_and_said(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path, write_bundle: WriteBundle
) -> None:
    bias, gamma = "box_net/box-predict/bias", "efficientnet-b0/stem/tpu_batch_normalization/gamma"
    averaged = {bias + EMA: torch.full((36,), 2.0), gamma + EMA: torch.full((32,), 3.0)}
    write_bundle(tmp_path / "model", {**_variables(model), **averaged}, _fast_checksum)
    report = load_weights(blank, tmp_path)
    assert "moving average (EMA) for 2 of 709 variables" in report.render()
    state, raw = blank.network.state_dict(), model.network.state_dict()
    assert (state["box_head.predict.pointwise.bias"] == 2).all()
    assert (state["backbone.stem.norm.weight"] == 3).all()
    assert torch.equal(state["backbone.stem.norm.bias"], raw["backbone.stem.norm.bias"])
    report = load_weights(blank, tmp_path, ema=False)
    _assert_equal_networks(blank, model)
    assert "raw weights" in report.render()
    assert "holds no" not in report.render()


def test_variables_without_an_average_are_taken_raw() -> None:
    names = ["a", "a" + EMA, "b", "global_step", "a/Momentum", "b/RMSProp_1"]
    copies = choose_copies(names, ema=True)
    assert copies.tensors == {"a": "a" + EMA, "b": "b"}
    assert copies.num_averaged == 1
    assert copies.skipped == ["a/Momentum", "b/RMSProp_1", "global_step"]
    assert choose_copies(names, ema=False).tensors == {"a": "a", "b": "b"}


def test_an_unclaimed_variable_is_refused(
    model: EfficientDet, tmp_path: Path, write_bundle: WriteBundle
) -> None:
    names = ["class_net/class-9/bias", "class_net/class-predict/pointwise_kernel"]
    write_bundle(tmp_path / "model", {name: torch.zeros(1, 1, 2, 9) for name in names})
    with pytest.raises(ValueError, match="1 tensors unknown to the model: class_net/class-9/bias"):
        load_weights(model, tmp_path)


def _tarball(path: Path, members: Dict[str, bytes], links: Dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def test_a_tarball_is_read_and_cannot_write_elsewhere(
    model: EfficientDet, blank: EfficientDet, folder: Path, tmp_path: Path
) -> None:
    members: Dict[str, Any] = {
        f"efficientdet-d0/{f.name}": f.read_bytes() for f in folder.iterdir()
    }
    members["efficientdet-d0/._model.index"] = b"left by macOS"
    members["../../escaped.index.txt"] = b"x"
    download = tmp_path / "download"
    download.mkdir()
    tarball = _tarball(download / "efficientdet-d0.tar.gz", members, {"link.index": "/etc/passwd"})
    report = load_weights(blank, tarball)
    _assert_equal_networks(blank, model)
    assert report.path == tarball
    assert [path.name for path in download.iterdir()] == [tarball.name]
    assert not list(tmp_path.rglob("escaped*"))


def test_bad_tarballs_are_told_apart(tmp_path: Path, model: EfficientDet) -> None:
    empty = _tarball(tmp_path / "empty.tar.gz", {"readme.txt": b"x"}, {})
    with pytest.raises(ValueError, match="holds no TensorFlow checkpoint"):
        load_weights(model, empty)
    empty.write_bytes(empty.read_bytes()[:40])
    with pytest.raises(ValueError, match="damaged or no tarball"):
        load_weights(model, empty)


def test_classifier_checkpoints_have_no_detection_head(
    model: EfficientDet, tmp_path: Path, write_bundle: WriteBundle
) -> None:
    kernel = torch.zeros(3, 3, 3, 32)
    write_bundle(tmp_path / "model", {"efficientnet-b0/stem/conv2d/kernel": kernel})
    with pytest.raises(ValueError, match="classifier without a detection head"):
        load_weights(model, tmp_path)


def test_object_based_checkpoints_are_told(
    model: EfficientDet, tmp_path: Path, write_bundle: WriteBundle
) -> None:
    write_bundle(tmp_path / "ckpt-1", {"a/.ATTRIBUTES/VARIABLE_VALUE": torch.zeros(1)})
    with pytest.raises(ValueError, match="object-based checkpoint"):
        load_weights(model, tmp_path)


def _assert_equal_networks(ours: EfficientDet, other: EfficientDet) -> None:
    state = ours.network.state_dict()
    for name, tensor in other.network.state_dict().items():
        assert torch.equal(state[name], tensor), name
