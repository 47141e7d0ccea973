"""CRC-32C against RFC 3720's vectors and against a loop over the bytes."""

from __future__ import annotations

import pytest
import torch

from detectors.weights.crc32c import POLYNOMIAL, SHORT, crc32c, masked


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value every CRC catalogue gives
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c_of_published_vectors(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("extra", [0, 1, 777])
def test_lanes_give_what_bits_one_by_one_give(extra: int) -> None:
    numbers = torch.randint(
        0, 256, (SHORT + extra,), generator=torch.Generator().manual_seed(extra)
    )
    data = bytes(numbers.tolist())
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF


def test_masked_crc_rotates_and_adds() -> None:
    assert masked(1) == (1 << 17) + 0xA282EAD8
    assert masked(0x8000) == 1 + 0xA282EAD8
