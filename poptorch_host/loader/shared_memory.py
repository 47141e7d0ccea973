"""Memory that two processes see: an anonymous file, cut into slots of tensors.

It has no name, so nothing is left behind whichever process dies, and is not bound by the size of
`/dev/shm`. S slots, T tensors per slot.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any, List, Sequence, Tuple

import torch

_ALIGNMENT = 64  # bytes: a cache line, and a multiple of every element's size


class AnonymousFile:
    """A file without a name that can be handed to a process being started."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("poptorch loader")
        else:  # not on Linux
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def __reduce__(self) -> Tuple[Any, Tuple[Any]]:
        return _arrived, (reduction.DupFd(self._descriptor),)

    def allocate(self, size: int) -> None:
        """Give the file `size` bytes now, so that memory cannot run out while it is written.

        Raises:
            OSError: there is not that much memory.
        """
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, 0, size)
        else:
            os.ftruncate(self._descriptor, size)

    def map(self, size: int) -> mmap.mmap:
        """The file as memory; it stays mapped while anything refers to it."""
        return mmap.mmap(self._descriptor, size)

    def close(self) -> None:
        """Drop the descriptor; what is mapped stays. Twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def bytes_needed(layout: Sequence[torch.Tensor], slots: int) -> int:
    """Bytes of S slots of tensors like those of `layout`; at least one."""
    return max(1, slots * sum(_room(tensor) for tensor in layout))


def cut(memory: mmap.mmap, layout: Sequence[torch.Tensor], slots: int) -> List[List[torch.Tensor]]:
    """S lists of T tensors over `memory`, with the shapes and dtypes of `layout` (meta tensors)."""
    offset = 0
    result: List[List[torch.Tensor]] = []
    for _ in range(slots):
        tensors: List[torch.Tensor] = []
        for like in layout:
            tensors.append(_view(memory, like, offset))
            offset += _room(like)
        result.append(tensors)
    return result


def _view(memory: mmap.mmap, like: torch.Tensor, offset: int) -> torch.Tensor:
    if like.numel() == 0:
        return torch.empty(like.shape, dtype=like.dtype)
    flat = torch.frombuffer(memory, dtype=like.dtype, count=like.numel(), offset=offset)
    return flat.view(like.shape)


def _room(tensor: torch.Tensor) -> int:
    size = tensor.numel() * tensor.element_size()
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _arrived(handle: Any) -> AnonymousFile:
    file = AnonymousFile.__new__(AnonymousFile)
    file._descriptor = handle.detach()
    return file
