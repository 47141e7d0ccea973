"""Checkpoints written by TensorFlow itself are read back exactly; runs where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from torch import Tensor

from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import load_weights, tensor_bundle
from detectors.weights.automl import sources
from detectors.weights.effdet import swap_box_axes

tf: Any = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]


def _write_named(folder: Path, tensors: Dict[str, Tensor]) -> Path:
    """A name-based checkpoint, as AutoML's training writes them."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, tensor in tensors.items():
            exact = tensor.double() if tensor.is_floating_point() else tensor
            value = tf.cast(exact.numpy(), str(tensor.dtype)[6:])
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        return Path(saver.save(session, str(folder / "model"), write_meta_graph=False))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_read_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 100
    tensor = values.abs().to(getattr(torch, dtype))
    prefix = _write_named(tmp_path, {"variable": tensor})
    read = tensor_bundle.read_checkpoint(prefix)
    assert list(read) == ["variable"]
    assert read["variable"].dtype == tensor.dtype
    assert torch.equal(read["variable"], tensor)


def test_many_variables_over_many_blocks_are_read_back_exactly(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(), (0, 3), (7,), (1, 1, 40, 240), (3, 3, 512, 64)]  # the last has 1.2 MB
    tensors = {
        f"efficientnet-b0/blocks_{i}/conv2d/kernel": torch.randn(shape, generator=generator)
        for i, shape in enumerate(shapes * 40)
    }
    prefix = _write_named(tmp_path, tensors)
    assert tensor_bundle.find_checkpoint(tmp_path) == prefix  # from the file `checkpoint`
    read = tensor_bundle.read_checkpoint(prefix)
    assert len(read) == 200
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_a_whole_d0_with_averages_is_loaded_exactly(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    state = swap_box_axes(model.network.state_dict())
    tensors = {"global_step": torch.tensor(300, dtype=torch.int64)}
    for name, source in sources(state, model.config).items():
        value = state[name]
        if value.dim() == 4:  # out, in, height, width -> as AutoML keeps it
            value = value.permute(
                (2, 3, 0, 1) if "depthwise_k" in source.variables[0] else (2, 3, 1, 0)
            )
        parts = value.unbind() if name.endswith("edge_weights") else (value,)
        for variable, part in zip(source.variables, parts):
            tensors[f"{variable}/ExponentialMovingAverage"] = part
            tensors[variable] = torch.zeros_like(part)
    assert len(tensors) == 2 * 709 + 1
    prefix = _write_named(tmp_path, tensors)
    report = load_weights(blank, tmp_path)
    assert report.path == prefix
    assert "moving average (EMA) for 709 of 709 variables" in report.render()
    loaded = blank.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in model.network.state_dict().items())


def test_shards_are_read_from_their_files(tmp_path: Path) -> None:
    parts = [str(tmp_path / "part0"), str(tmp_path / "part1")]
    for part, name, size in zip(parts, "ab", (5.0, 3.0)):
        tf.raw_ops.SaveV2(
            prefix=part, tensor_names=[name], shape_and_slices=[""], tensors=[tf.range(size)]
        )
    prefix = tmp_path / "model"
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))
    assert len(list(tmp_path.glob("model.data-*"))) == 2
    read = tensor_bundle.read_checkpoint(prefix)
    assert read["a"].tolist() == [0, 1, 2, 3, 4]
    assert read["b"].tolist() == [0, 1, 2]


def test_text_and_slices_are_refused_by_name(tmp_path: Path) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model"),
        tensor_names=["text", "parted"],
        shape_and_slices=["", "4 0,2"],
        tensors=[tf.constant(["x"]), tf.range(2.0)],
    )
    with pytest.raises(ValueError, match="text has TensorFlow type 7"):
        tensor_bundle.read_checkpoint(tmp_path / "model", lambda name: name == "text")
    with pytest.raises(ValueError, match="parted is stored in slices"):
        tensor_bundle.read_checkpoint(tmp_path / "model", lambda name: name == "parted")


def test_object_based_checkpoint_is_listed_and_read(tmp_path: Path) -> None:
    prefix = Path(tf.train.Checkpoint(v=tf.Variable([1.0, 2.0])).save(str(tmp_path / "keras")))
    name = "v/.ATTRIBUTES/VARIABLE_VALUE"
    assert name in tensor_bundle.read_index(prefix)
    read = tensor_bundle.read_checkpoint(prefix, lambda key: key == name)
    assert read[name].tolist() == [1.0, 2.0]
