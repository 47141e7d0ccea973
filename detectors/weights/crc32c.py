"""CRC-32C (Castagnoli) of long byte strings, and the masked form that TensorFlow's files store.

The reflected polynomial of RFC 3720, appendix B.4. A CRC is linear over GF(2), so the bytes are cut
into L equal lanes whose registers advance together, one tensor operation per byte position; lanes
are joined in pairs by the 32x32 bit matrix that says what a lane's length of zero bytes does.
"""

from __future__ import annotations

from typing import List

import torch
from torch import Tensor

POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed
MASK_DELTA = 0xA282EAD8  # TensorFlow's and LevelDB's constant: a CRC of data holding CRCs is weak
MAX_LANES = 8192  # beyond this the registers leave the cache
MIN_LANE = 512  # bytes; below this joining the lanes costs more than it saves
SHORT = 32768  # bytes that a plain loop does as fast as the lanes


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, as an unsigned 32-bit number."""
    lanes = _num_lanes(len(data))
    length = len(data) // lanes
    register = 0xFFFFFFFF
    if lanes > 1:
        columns = torch.frombuffer(bytearray(data[: lanes * length]), dtype=torch.uint8)
        register = _advance_lanes(columns.view(lanes, length), register)
        data = data[lanes * length :]
    for byte in data:
        register = _TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form stored in table blocks and bundle entries: rotated right by 15, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def _num_lanes(size: int) -> int:
    """The largest power of two with at least `MIN_LANE` bytes a lane; 1 for short strings."""
    lanes = 1
    while size >= SHORT and lanes < MAX_LANES and size // (lanes * 2) >= MIN_LANE:
        lanes *= 2
    return lanes


def _advance_lanes(lanes: Tensor, register: int) -> int:
    """Run the register over (L, S) uint8 lanes, in order; L is a power of two."""
    table = torch.tensor(_TABLE)  # (256,) int64: torch has no shift for uint32
    state = torch.zeros(lanes.shape[0], dtype=torch.int64)
    state[0] = register
    for column in lanes.t().contiguous():  # (L,) one byte of every lane
        state = table[(state ^ column) & 0xFF] ^ (state >> 8)
    matrix = _zero_bytes(lanes.shape[1])
    while state.numel() > 1:
        state = _apply(matrix, state[0::2]) ^ state[1::2]
        matrix = [_multiply(matrix, column) for column in matrix]  # twice the length
    return int(state)


def _zero_bytes(count: int) -> List[int]:
    """Columns of the matrix that advances a register over `count` zero bytes."""
    power = [1 << bit for bit in range(32)]  # identity
    base = [_TABLE[(1 << bit) & 0xFF] ^ ((1 << bit) >> 8) for bit in range(32)]  # one byte
    while count:
        if count & 1:
            power = [_multiply(base, column) for column in power]
        base = [_multiply(base, column) for column in base]
        count >>= 1
    return power


def _multiply(matrix: List[int], vector: int) -> int:
    """Matrix times one register, over GF(2)."""
    result = 0
    for bit, column in enumerate(matrix):
        if vector >> bit & 1:
            result ^= column
    return result


def _apply(matrix: List[int], state: Tensor) -> Tensor:
    """Matrix times every register of (L,) int64."""
    result = torch.zeros_like(state)
    for bit, column in enumerate(matrix):
        result ^= (state >> bit & 1) * column
    return result


def _make_table() -> List[int]:
    """What one byte does to the register: 256 entries."""
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (POLYNOMIAL if entry & 1 else 0)
        table.append(entry)
    return table


_TABLE = _make_table()
