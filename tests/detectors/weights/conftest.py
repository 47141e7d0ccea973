"""Fixtures of the weights' tests: a writer of TensorFlow checkpoints, a small detector, effdet."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet

Checksum = Callable[[bytes], int]
WriteBundle = Callable[..., Path]

TYPES = {  # tensorflow/core/framework/types.proto
    torch.float32: 1,
    torch.float64: 2,
    torch.int32: 3,
    torch.uint8: 4,
    torch.int64: 9,
    torch.bool: 10,
    torch.bfloat16: 14,
    torch.float16: 19,
}


def slow_masked_crc(data: bytes) -> int:
    """Bit by bit, as the definition says."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    crc = register ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    """A base-128 number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(tag: int, value: int | bytes) -> bytes:
    """A varint or length-delimited field of a protocol buffer."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value)
    return varint(tag << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], checksum: Checksum) -> bytes:
    """A table block with its trailer; keys share their prefix with the key before."""
    out, last = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    out += struct.pack("<II", 0, 1)  # one restart, at 0
    return out + b"\0" + struct.pack("<I", checksum(out + b"\0"))


def write_bundle_files(
    prefix: Path,
    tensors: Mapping[str, Tensor],
    checksum: Checksum = slow_masked_crc,
    per_block: int = 16,
) -> Path:
    """A TensorFlow V2 checkpoint of one data file, and the folder's `checkpoint` file."""
    header = field(1, 1) + field(2, 0)  # one shard, little-endian
    entries, chunks, offset = [(b"", header)], [], 0
    for name, tensor in sorted(tensors.items()):
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        dims = b"".join(field(2, field(1, size)) for size in tensor.shape)
        entry = field(1, TYPES[tensor.dtype]) + field(2, dims) + field(4, offset)
        entry += field(5, len(raw)) + varint(6 << 3 | 5) + struct.pack("<I", checksum(raw))
        entries.append((name.encode(), entry))
        chunks.append(raw)
        offset += len(raw)
    table, handles = b"", []
    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        body = block(part, checksum)
        handles.append((part[-1][0], varint(len(table)) + varint(len(body) - 5)))
        table += body
    meta, index = block([], checksum), block(handles, checksum)
    footer = varint(len(table)) + varint(len(meta) - 5)
    footer += varint(len(table) + len(meta)) + varint(len(index) - 5)
    footer = footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(table + meta + index + footer)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(b"".join(chunks))
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')
    return prefix


@pytest.fixture(scope="session")
def write_bundle() -> WriteBundle:
    """`write_bundle(prefix, tensors, checksum=, per_block=)` writes a TensorFlow checkpoint."""
    return write_bundle_files


@pytest.fixture(scope="session")
def model() -> EfficientDet:
    """A D0 at 128 px whose every tensor is random; shared, so a source and never a target."""
    return randomised(efficientdet("d0", image_size=128), seed=0)


@pytest.fixture
def blank() -> EfficientDet:
    """Another D0 at 128 px, with other values."""
    return randomised(efficientdet("d0", image_size=128), seed=1)


def randomised(detector: EfficientDet, seed: int) -> EfficientDet:
    """The detector with every tensor drawn anew, scaled so that activations stay of order one."""
    generator = torch.Generator().manual_seed(seed)
    state: Dict[str, Any] = {}
    for name, value in detector.network.state_dict().items():
        if value.dtype == torch.int64:
            state[name] = value
        elif value.dim() == 4:
            noise = torch.randn(value.shape, generator=generator)
            state[name] = noise * (2 / value[0].numel()) ** 0.5
        else:
            state[name] = torch.rand(value.shape, generator=generator) + 0.5
    detector.network.load_state_dict(state)
    return detector


@pytest.fixture(scope="session")
def effdet() -> Any:
    """effdet, or a skip; importing it warns about its use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("effdet", reason="effdet is not installed")
