"""Several tensors as one flat tensor of bytes, so that they cross to other ranks in one message."""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple

import torch

_ALIGNMENT = 16  # bytes; no element is larger, so each tensor can be viewed in place


def pack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The bytes of tensors on the CPU, in order."""
    buffer = torch.zeros(size_of(tensors), dtype=torch.uint8)
    for tensor, (start, end) in zip(tensors, _places(tensors)):
        buffer[start:end] = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return buffer


def unpack(buffer: torch.Tensor, like: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """The tensors again: views of the buffer.

    Args:
        like: tensors of the same shapes and dtypes, meta ones will do.
    """
    return [
        buffer[start:end].view(tensor.dtype).view(tensor.shape)
        for tensor, (start, end) in zip(like, _places(like))
    ]


def size_of(tensors: Sequence[torch.Tensor]) -> int:
    """Bytes that `pack` takes."""
    return max((-(-end // _ALIGNMENT) * _ALIGNMENT for _, end in _places(tensors)), default=0)


def _places(tensors: Sequence[torch.Tensor]) -> Iterator[Tuple[int, int]]:
    start = 0
    for tensor in tensors:
        end = start + tensor.numel() * tensor.element_size()
        yield start, end
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
