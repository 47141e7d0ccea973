"""Parses protocol buffers without their schema: field numbers to values."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple, Union

from detectors.weights.sstable import read_varint

Fields = Dict[int, List[Union[int, bytes]]]
"""Field number -> its values in order; numbers for varints, bytes for every other wire type."""


def number(fields: Fields, tag: int) -> int:
    """A numeric field's last value, 0 where it is absent."""
    value = fields.get(tag, [0])[-1]
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def message(fields: Fields, tag: int) -> bytes:
    """A message's bytes, empty where it is absent."""
    value = fields.get(tag, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def parse(data: bytes) -> Fields:
    """A protocol buffer's fields: numbers for varints, bytes for the other wire types."""
    fields: Fields = {}
    for tag, value in _iterate(data):
        fields.setdefault(tag, []).append(value)
    return fields


def _iterate(data: bytes) -> Iterator[Tuple[int, Union[int, bytes]]]:
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        wire, size = key & 7, 0
        if wire == 0:
            value, position = read_varint(data, position)
            yield key >> 3, value
            continue
        if wire == 2:
            size, position = read_varint(data, position)
        else:
            size = {1: 8, 5: 4}[wire]
        yield key >> 3, data[position : position + size]
        position += size
