"""Runs an operator of ours as PopART would, on a simulated IPU: setup, lowering, program.

The operator's C++ runs unchanged on our own small implementation of the graph calls it uses. That
shows that the lowering is complete and right, not that it compiles for an IPU, fits on one or is
fast there.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

__all__ = ["Report", "Simulation"]

MAX_RANK = 8
TYPES = [torch.float32, torch.int32, torch.float16]


class Report(NamedTuple):
    """What one run did."""

    rounds: int
    """Times that the body of a loop ran."""
    compute_sets: int
    """Executions of compute sets, the loop's among them."""
    vertices: int
    """Vertices in the graph."""
    max_tile_bytes: int
    """Bytes of the fullest tile: variables and what its vertices read from elsewhere; no code."""
    tiles_used: int
    """Tiles that hold anything."""


class Simulation:
    """The operators of a library that `build_operator` made.

    Args:
        path: the library.
        name: the operator, as in `custom_op(name=)`.
        domain: its domain.
    """

    def __init__(self, path: Path, name: str, domain: str = "poplar_ops") -> None:
        self.name = name
        self.domain = domain
        self.functions = ctypes.CDLL(str(path))
        self.functions.poplar_host_session_new.restype = ctypes.c_void_p
        self.functions.poplar_host_error.restype = ctypes.c_char_p
        self.functions.poplar_host_session_serialised.restype = ctypes.c_char_p

    def run(
        self,
        inputs: Sequence[Tensor],
        attributes: Mapping[str, Union[int, float]],
        *,
        grads: Optional[Sequence[Tensor]] = None,
        tiles: int = 16,
        seed: int = 0,
    ) -> Tuple[List[Tensor], Report]:
        """Lower the operator for a device of `tiles` tiles and run it.

        Args:
            inputs: float32, float16 or int32 tensors of any shape.
            attributes: by name, int or float as PopTorch would store them.
            grads: gradients of the outputs; runs the gradient operator instead.
            tiles: tiles of the device.
            seed: of the order in which vertices and workers run.

        Returns:
            The outputs, in order, and what the run did.

        Raises:
            RuntimeError: the operator or the simulated device refused.
        """
        session = self._session(inputs, attributes)
        try:
            if grads is not None:
                inputs = self._gradient(session, inputs, grads)
            held = [tensor.contiguous() for tensor in inputs]
            data = (ctypes.c_void_p * len(held))(*[tensor.data_ptr() for tensor in held])
            self._check(
                self.functions.poplar_host_session_run(
                    session, ctypes.c_uint(tiles), ctypes.c_uint(seed), data
                )
            )
            count = self.functions.poplar_host_session_outputs(session)
            outputs = [self._output(session, index) for index in range(count)]
            figures = (ctypes.c_int64 * len(Report._fields))()
            self.functions.poplar_host_session_report(session, figures)
            return outputs, Report(*figures)
        finally:
            self.functions.poplar_host_session_free(session)

    def serialised(
        self, inputs: Sequence[Tensor], attributes: Mapping[str, Union[int, float]], outline: bool
    ) -> Dict[str, str]:
        """What the operator tells PopART about itself, for caching or (`outline`) for outlining."""
        session = self._session(inputs, attributes)
        try:
            text = self.functions.poplar_host_session_serialised(session, int(outline)).decode()
        finally:
            self.functions.poplar_host_session_free(session)
        return dict(item.split("=") for item in text.split(";") if item)

    def _gradient(
        self, session: ctypes.c_void_p, inputs: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> List[Tensor]:
        self._check(self.functions.poplar_host_session_gradient(session))
        held: List[Tensor] = []
        while True:
            source = self.functions.poplar_host_session_source(session, len(held))
            if source < -len(grads):
                return held
            held.append(inputs[source] if source >= 0 else grads[-1 - source])

    def _session(
        self, inputs: Sequence[Tensor], attributes: Mapping[str, Union[int, float]]
    ) -> ctypes.c_void_p:
        session = ctypes.c_void_p(self.functions.poplar_host_session_new())
        try:
            for key, value in attributes.items():
                name = ctypes.c_char_p(key.encode())
                if isinstance(value, float):
                    self.functions.poplar_host_session_float(session, name, ctypes.c_float(value))
                else:
                    self.functions.poplar_host_session_int(session, name, ctypes.c_int64(value))
            domain, kind = self.domain.encode(), self.name.encode()
            self._check(
                self.functions.poplar_host_session_op(
                    session, ctypes.c_char_p(domain), ctypes.c_char_p(kind)
                )
            )
            for index, tensor in enumerate(inputs):
                shape = (ctypes.c_int64 * tensor.dim())(*tensor.shape)
                kind_of = TYPES.index(tensor.dtype)
                self.functions.poplar_host_session_input(
                    session, index, kind_of, tensor.dim(), shape
                )
            self._check(self.functions.poplar_host_session_setup(session))
        except RuntimeError:
            self.functions.poplar_host_session_free(session)
            raise
        return session

    def _output(self, session: ctypes.c_void_p, index: int) -> Tensor:
        kind = ctypes.c_int()
        shape = (ctypes.c_int64 * MAX_RANK)()
        rank = self.functions.poplar_host_session_output(session, index, ctypes.byref(kind), shape)
        output = torch.empty(list(shape[:rank]), dtype=TYPES[kind.value])
        self.functions.poplar_host_session_read(session, index, ctypes.c_void_p(output.data_ptr()))
        return output

    def _check(self, failed: int) -> None:
        if failed:
            raise RuntimeError(self.functions.poplar_host_error().decode())
