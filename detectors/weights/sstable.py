"""Reads a sorted string table: the key-value file that TensorFlow's `.index` files are.

The format is LevelDB's (doc/table_format.md there): blocks of prefix-compressed entries, each with
a one-byte compression type and a masked CRC-32C behind it, an index block, and a 48-byte footer.
"""

from __future__ import annotations

from typing import Dict, Iterator, Tuple

from detectors.weights.crc32c import crc32c, masked

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48  # two block handles, padded to 40 bytes, and the magic number


def read_table(data: bytes, name: str) -> Dict[bytes, bytes]:
    """All entries of a table, in the order of their keys.

    Args:
        data: the whole file.
        name: what to call the file in messages.

    Raises:
        ValueError: not a table, a wrong checksum, or compressed blocks.
    """
    footer = data[-FOOTER_SIZE:]
    if len(footer) < FOOTER_SIZE or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError(
            f"{name} is not the index of a TensorFlow checkpoint or is cut off:"
            f" its {len(data)} bytes do not end in a table's footer"
        )
    _, _, position = _read_handle(footer, 0)  # the meta index, which TensorFlow leaves empty
    offset, size, _ = _read_handle(footer, position)
    entries: Dict[bytes, bytes] = {}
    try:
        for _, handle in _entries(_read_block(data, offset, size, name)):
            offset, size, _ = _read_handle(handle, 0)
            entries.update(_entries(_read_block(data, offset, size, name)))
    except IndexError:
        raise ValueError(f"{name}: a block ends in the middle of an entry; copy it again") from None
    return entries


def read_varint(data: bytes, position: int) -> Tuple[int, int]:
    """A base-128 number and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _read_handle(data: bytes, position: int) -> Tuple[int, int, int]:
    """Offset and size of a block, and the position behind them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def _read_block(data: bytes, offset: int, size: int, name: str) -> bytes:
    """The contents of one block, its checksum and compression type checked."""
    end = offset + size + 1
    if end + 4 > len(data):
        raise ValueError(f"{name} is cut off: a block ends at byte {end + 4} of {len(data)}")
    if masked(crc32c(data[offset:end])) != int.from_bytes(data[end : end + 4], "little"):
        raise ValueError(f"{name}: checksum of the block at byte {offset} is wrong; copy it again")
    if data[end - 1] != 0:
        raise ValueError(
            f"{name}: block at byte {offset} is compressed (type {data[end - 1]}), which"
            " TensorFlow's own writer never does; save the checkpoint again with TensorFlow"
        )
    return data[offset : end - 1]


def _entries(block: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Keys and values of a block; each key names how much it shares with the one before."""
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (num_restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        size, position = read_varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + size]
        position += size
