"""Runs one vertex of a codelet on the CPU, worker by worker, and looks for races between workers.

Tensors are bound without a copy: a vertex writes straight into the tensors it was given. A tile
writes whole 32-bit words, so two workers that write different halves of one word lose a write
there, though never on a CPU: `races` finds them by what each worker alone changes.
"""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor

__all__ = ["HostVertex", "Race", "VertexLibrary"]

TYPES = {
    torch.float32: "float",
    torch.float16: "half",
    torch.int32: "int",
    torch.int16: "short",
    torch.bool: "bool",
}
WORD = 4  # bytes a tile writes at once
POISONS = (0x5A, 0xA5)  # every bit differs: a written byte differs from one of them


class Race(NamedTuple):
    """Two workers that write the same 32-bit words of a field."""

    field: str
    workers: Tuple[int, int]
    words: List[int]


class VertexLibrary:
    """The vertex classes of a library that `build_operator` made.

    Args:
        path: the library.
    """

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(str(path))
        self.functions.poplar_host_error.restype = ctypes.c_char_p
        self.functions.poplar_host_vertices.restype = ctypes.c_char_p
        self.functions.poplar_host_vertex_new.restype = ctypes.c_void_p
        self.workers: Dict[str, int] = {}
        self.fields: Dict[str, Dict[str, str]] = {}
        for line in self.functions.poplar_host_vertices().decode().splitlines():
            name, workers, *fields = line.split()
            self.workers[name] = int(workers)
            parts = (field.split(":") for field in fields)
            self.fields[name] = {field[0]: field[1] for field in parts}

    def vertex(self, name: str) -> HostVertex:
        """A vertex of class `name` with nothing bound yet."""
        return HostVertex(self, name)

    def raise_error(self) -> None:
        """Raise what the last failed call said."""
        raise RuntimeError(self.functions.poplar_host_error().decode())


class HostVertex:
    """One vertex; `bind` its fields, then `run` its workers."""

    def __init__(self, library: VertexLibrary, name: str) -> None:
        self.library = library
        self.name = name
        self.tensors: Dict[str, Tensor] = {}
        self.handle = ctypes.c_void_p(
            library.functions.poplar_host_vertex_new(ctypes.c_char_p(name.encode()))
        )
        if not self.handle:
            library.raise_error()

    def __del__(self) -> None:
        self.library.functions.poplar_host_vertex_free(self.handle)

    def bind(self, **fields: Tensor) -> HostVertex:
        """Bind contiguous tensors to fields; a plain value is a tensor of one element.

        Raises:
            RuntimeError: no such field, another element type, misaligned, or too long.
        """
        for field, tensor in fields.items():
            assert tensor.is_contiguous(), f"{field} must be contiguous"
            failed = self.library.functions.poplar_host_vertex_bind(
                self.handle,
                ctypes.c_char_p(field.encode()),
                ctypes.c_char_p(TYPES[tensor.dtype].encode()),
                ctypes.c_void_p(tensor.data_ptr()),
                ctypes.c_size_t(tensor.numel()),
            )
            if failed:
                self.library.raise_error()
            self.tensors[field] = tensor
        return self

    def run(self, workers: Optional[Sequence[int]] = None) -> None:
        """Run `workers` in the given order, all of them in theirs by default.

        Raises:
            RuntimeError: a worker left the bounds of a field.
        """
        order = range(self.library.workers[self.name]) if workers is None else workers
        for worker in order:
            if self.library.functions.poplar_host_vertex_run(self.handle, ctypes.c_uint(worker)):
                self.library.raise_error()

    def written_words(self, worker: int) -> Dict[str, Set[int]]:
        """The 32-bit words of each field that `worker` alone changes; the tensors stay as they are.

        Outputs are filled with two patterns before, so that any write shows. A word of an InOut
        field counts if its value changes, since its content steers the vertex.
        """
        written: Dict[str, Set[int]] = {}
        directions = self.library.fields[self.name]
        outputs = {f: t for f, t in self.tensors.items() if directions[f] in ("out", "inout")}
        before = {field: tensor.clone() for field, tensor in outputs.items()}
        for poison in POISONS:
            start = {}
            for field, tensor in outputs.items():
                if directions[field] == "out":
                    _bytes(tensor).fill_(poison)
                start[field] = _bytes(tensor).clone()
            self.run([worker])
            for field, tensor in outputs.items():
                changed = torch.nonzero(_bytes(tensor) != start[field]).flatten().tolist()
                written.setdefault(field, set()).update(int(byte) // WORD for byte in changed)
                tensor.copy_(before[field])
        return written

    def races(self) -> List[Race]:
        """Every pair of workers and field where both write a word."""
        sets = [self.written_words(worker) for worker in range(self.library.workers[self.name])]
        found = []
        for first, second in itertools.combinations(range(len(sets)), 2):
            for field in sets[first]:
                words = sorted(sets[first][field] & sets[second][field])
                if words:
                    found.append(Race(field, (first, second), words))
        return found


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.flatten().view(torch.uint8)
