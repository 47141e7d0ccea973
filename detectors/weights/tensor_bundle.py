"""Reads TensorFlow V2 checkpoints (`x.index` and `x.data-00000-of-00001`) without TensorFlow.

The index is a sorted string table of protocol buffers: a BundleHeaderProto under the empty key and
a BundleEntryProto per tensor (tensorflow/core/protobuf/tensor_bundle.proto), which says where in
which data file the tensor lies. Only the handful of fields needed here are parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import torch
from torch import Tensor

from detectors.weights.crc32c import crc32c, masked
from detectors.weights.protobuf import message, number, parse
from detectors.weights.sstable import read_table

DTYPES = {  # tensorflow/core/framework/types.proto; torch has no counterpart of the others
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    8: torch.complex64,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    18: torch.complex128,
    19: torch.float16,
}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    """TensorFlow's number of the type."""
    shape: Tuple[int, ...]
    shard: int
    """Which data file."""
    offset: int
    """Bytes from the start of that file."""
    size: int
    """Bytes."""
    crc: int
    """Masked CRC-32C of the bytes."""
    sliced: bool
    """Stored in parts (a partitioned variable)."""


def find_checkpoint(path: Path) -> Optional[Path]:
    """The prefix (`x` of `x.index`) that a folder, an index, a data file or a prefix names.

    In a folder the file `checkpoint` says which is the latest; without one there must be exactly
    one index.

    Returns:
        None where `path` is no TensorFlow checkpoint.

    Raises:
        ValueError: a folder whose `checkpoint` file names an absent one, or with several.
    """
    if path.is_dir():
        return _latest(path)
    if path.suffix == ".index":
        return path.with_suffix("")
    if ".data-" in path.name:
        return path.with_name(path.name[: path.name.rindex(".data-")])
    return path if path.with_name(path.name + ".index").is_file() else None


def read_index(prefix: Path) -> Dict[str, Entry]:
    """The names, shapes and places of a checkpoint's tensors; reads no tensor.

    Raises:
        ValueError: the index is damaged, or of a machine with the other byte order.
        FileNotFoundError: there is no `<prefix>.index`.
    """
    index = prefix.with_name(prefix.name + ".index")
    table = read_table(index.read_bytes(), index.name)
    if b"" not in table:
        raise ValueError(f"{index.name} is a table but not a TensorFlow checkpoint's: no header")
    header = parse(table.pop(b""))
    if number(header, 2) != 0:
        raise ValueError(f"{index.name} was written on a big-endian machine: not supported")
    # Parts of sliced variables have keys of their own, binary and starting with 0.
    names = [key for key in table if not key.startswith(b"\0")]
    return {key.decode(): _entry(table[key]) for key in names}


def read_checkpoint(
    prefix: Path, wanted: Callable[[str], bool] = lambda name: True
) -> Dict[str, Tensor]:
    """The tensors of a checkpoint by variable name, checksums verified.

    Args:
        prefix: as `find_checkpoint` returns it.
        wanted: which names to read; the others are not touched.

    Raises:
        ValueError: a damaged or cut file, or a wanted tensor of a type or layout not read here.
        FileNotFoundError: a data file is missing.
    """
    entries = {name: entry for name, entry in read_index(prefix).items() if wanted(name)}
    tensors = {}
    for shard in sorted({entry.shard for entry in entries.values()}):
        with open(_shard_path(prefix, shard), "rb") as file:
            for name, entry in entries.items():
                if entry.shard == shard:
                    file.seek(entry.offset)
                    tensors[name] = _tensor(name, entry, file.read(entry.size))
    return tensors


def _tensor(name: str, entry: Entry, data: bytes) -> Tensor:
    """Bytes to tensor, after the checks."""
    if entry.sliced:
        raise ValueError(f"variable {name} is stored in slices (partitioned), which is not read")
    if entry.dtype not in DTYPES:
        raise ValueError(f"variable {name} has TensorFlow type {entry.dtype}, which is not read")
    if len(data) != entry.size:
        raise ValueError(f"data file is cut off: {name} has {len(data)} of {entry.size} bytes")
    if masked(crc32c(data)) != entry.crc:
        raise ValueError(f"checksum of {name} is wrong: the data file is damaged; copy it again")
    if not data:
        return torch.zeros(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(bytearray(data), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


def _shard_path(prefix: Path, shard: int) -> Path:
    """The data file of a shard; the total number of them is part of its name."""
    found = sorted(prefix.parent.glob(f"{prefix.name}.data-{shard:05d}-of-*"))
    if not found:
        raise FileNotFoundError(f"{prefix}.data-{shard:05d}-of-… is missing beside {prefix}.index")
    return found[0]


def _latest(folder: Path) -> Optional[Path]:
    """The checkpoint a folder's `checkpoint` file names, or its only one."""
    state = folder / "checkpoint"
    names = [index.stem for index in sorted(folder.glob("*.index"))]
    if state.is_file():
        for line in state.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model_checkpoint_path":
                name = Path(value.strip().strip('"')).name  # saved paths may be of another machine
                if name not in names:
                    raise ValueError(f"{state} names {name}, but {folder} has only {names}")
                return folder / name
    if len(names) > 1:
        raise ValueError(f"{folder} has {len(names)} checkpoints {names}: give one of their paths")
    return folder / names[0] if names else None


def _entry(data: bytes) -> Entry:
    """A BundleEntryProto."""
    fields = parse(data)
    shape = parse(message(fields, 2))
    return Entry(
        dtype=number(fields, 1),
        shape=tuple(number(parse(dim), 1) for dim in shape.get(2, []) if isinstance(dim, bytes)),
        shard=number(fields, 3),
        offset=number(fields, 4),
        size=number(fields, 5),
        crc=number(fields, 6),
        sliced=7 in fields,
    )
