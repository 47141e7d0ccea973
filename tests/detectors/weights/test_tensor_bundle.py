"""TensorFlow checkpoints, written here byte by byte, are read back exactly or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from detectors.weights import tensor_bundle

WriteBundle = Callable[..., Path]

TENSORS = {
    "class_net/class-0/bias": torch.tensor([1.5, -2.0, float("inf")]),
    "class_net/class-0/pointwise_kernel": torch.arange(24.0).reshape(1, 1, 4, 6),
    "empty": torch.zeros(0, 3),
    "flag": torch.tensor([True, False]),
    "global_step": torch.tensor(123456789012, dtype=torch.int64),
    "half": torch.tensor([0.1, 65504.0], dtype=torch.float16),
    "brain": torch.tensor([0.1, 3e38], dtype=torch.bfloat16),
    "double": torch.tensor([[0.1]], dtype=torch.float64),
    "byte": torch.tensor([0, 255], dtype=torch.uint8),
}


@pytest.fixture
def prefix(tmp_path: Path, write_bundle: WriteBundle) -> Path:
    return write_bundle(tmp_path / "model", TENSORS, per_block=3)


def test_tensors_of_every_type_come_back_exactly(prefix: Path) -> None:
    read = tensor_bundle.read_checkpoint(prefix)
    assert set(read) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_only_wanted_tensors_are_read(prefix: Path) -> None:
    read = tensor_bundle.read_checkpoint(prefix, lambda name: name == "byte")
    assert list(read) == ["byte"]


def test_index_tells_names_and_shapes_without_the_data(prefix: Path) -> None:
    prefix.with_name("model.data-00000-of-00001").unlink()
    index = tensor_bundle.read_index(prefix)
    assert index["class_net/class-0/pointwise_kernel"].shape == (1, 1, 4, 6)
    with pytest.raises(FileNotFoundError, match="data-00000-of"):
        tensor_bundle.read_checkpoint(prefix)


@pytest.mark.parametrize("end", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_is_found_by_any_of_its_files(prefix: Path, end: str) -> None:
    assert tensor_bundle.find_checkpoint(prefix.with_name("model" + end)) == prefix


def test_the_checkpoint_file_says_which_is_the_latest(
    tmp_path: Path, write_bundle: WriteBundle
) -> None:
    write_bundle(tmp_path / "model.ckpt-1", {})
    write_bundle(tmp_path / "model.ckpt-2", {})
    assert tensor_bundle.find_checkpoint(tmp_path) == tmp_path / "model.ckpt-2"
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/of/another/machine/model.ckpt-1"'
    )
    assert tensor_bundle.find_checkpoint(tmp_path) == tmp_path / "model.ckpt-1"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"')
    with pytest.raises(ValueError, match=r"names model\.ckpt-3"):
        tensor_bundle.find_checkpoint(tmp_path)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(ValueError, match="has 2 checkpoints"):
        tensor_bundle.find_checkpoint(tmp_path)


def test_no_checkpoint_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert tensor_bundle.find_checkpoint(tmp_path) is None
    assert tensor_bundle.find_checkpoint(tmp_path / "model.pth") is None


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def test_a_flipped_bit_in_the_data_is_noticed(prefix: Path) -> None:
    _flip(prefix.with_name("model.data-00000-of-00001"), 0)
    with pytest.raises(ValueError, match="checksum of brain is wrong"):
        tensor_bundle.read_checkpoint(prefix)


def test_a_flipped_bit_in_the_index_is_noticed(prefix: Path) -> None:
    _flip(prefix.with_name("model.index"), 5)
    with pytest.raises(ValueError, match="checksum of the block at byte 0"):
        tensor_bundle.read_index(prefix)


@pytest.mark.parametrize("size", [0, 47, 200])
def test_a_cut_index_is_refused(prefix: Path, size: int) -> None:
    index = prefix.with_name("model.index")
    index.write_bytes(index.read_bytes()[:size])
    with pytest.raises(ValueError, match="cut off"):
        tensor_bundle.read_index(prefix)


def test_cut_data_is_refused(prefix: Path) -> None:
    data = prefix.with_name("model.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is cut off: half has"):
        tensor_bundle.read_checkpoint(prefix)


def test_compressed_blocks_are_refused_by_name(tmp_path: Path, write_bundle: WriteBundle) -> None:
    prefix = write_bundle(tmp_path / "model", {})
    index = prefix.with_name("model.index")
    data = bytearray(index.read_bytes())
    size = data.index(b"\0\0\0\0\1\0\0\0") + 8  # the first block ends with its one restart
    data[size] = 1  # snappy
    data[size + 1 : size + 5] = _masked(bytes(data[: size + 1])).to_bytes(4, "little")
    index.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"compressed \(type 1\)"):
        tensor_bundle.read_index(prefix)


def _masked(data: bytes) -> int:
    from detectors.weights.crc32c import crc32c, masked

    return masked(crc32c(data))


def test_types_without_a_counterpart_are_refused(
    tmp_path: Path, write_bundle: WriteBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Any = {number: t for number, t in tensor_bundle.DTYPES.items() if number != 1}
    prefix = write_bundle(tmp_path / "model", {"text": torch.zeros(1)})
    monkeypatch.setattr(tensor_bundle, "DTYPES", known)
    with pytest.raises(ValueError, match="text has TensorFlow type 1"):
        tensor_bundle.read_checkpoint(prefix)
