"""Transfers that overlap with computation: `set_overlap_for_input` and `set_overlap_for_output`.

Identities on a host; a capture checks that the device could do what they ask for.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, TypeVar

import torch
from torch import Tensor

from .. import _state
from ..blocks.strategies import PipelinedExecution
from ..enums import OutputMode, OverlapMode
from ..errors import createPoptorchError
from ..options import Options
from ..tensors.structure import map_tensors, other_values

S = TypeVar("S")
INPUT, OUTPUT = "set_overlap_for_input", "set_overlap_for_output"


def set_overlap_for_input(input_tensors: S, mode: OverlapMode) -> S:
    """Overlap the transfer of inputs with computation; hardware only.

    Args:
        input_tensors: a tensor, or nested tuples, lists and dicts of tensors: inputs of the model
            that nothing else is applied to.

    Returns:
        the same structure, whose tensors are to be used in place of the given ones.
    """
    return _overlap(INPUT, input_tensors, mode)


def set_overlap_for_output(output_tensors: S, mode: OverlapMode) -> S:
    """Overlap the transfer of outputs with computation; hardware only.

    Args:
        output_tensors: a tensor, or nested tuples, lists and dicts of tensors.

    Returns:
        the same structure, whose tensors must be returned by the model, each once.
    """
    return _overlap(OUTPUT, output_tensors, mode)


class OverlapRecord:
    """What one capture sees of overlapped tensors."""

    def __init__(self) -> None:
        self._inputs: Dict[int, Tensor] = {}
        self._read: Dict[int, int] = {}
        self._marked: List[Any] = []  # (function, mode, the tensor, the one in its place)
        self._passing = False

    def follow(self, inputs: Sequence[Tensor]) -> None:
        """Note the model's inputs."""
        self._inputs = {id(tensor): tensor for tensor in inputs}

    @property
    def passing(self) -> bool:
        """Whether the operator that the dispatcher shows now stands for no operator."""
        return self._passing

    def read(self, tensors: Sequence[Tensor]) -> None:
        """Count the operators that read each input."""
        for tensor in tensors:
            if id(tensor) in self._inputs:
                self._read[id(tensor)] = self._read.get(id(tensor), 0) + 1

    def mark(self, function: str, tensor: Tensor, mode: OverlapMode) -> Tensor:
        """Another tensor in the place of this one, so that uses of either can be told apart."""
        self._passing = True
        try:
            stand_in: Tensor = torch.ops.aten.alias.default(tensor)
        finally:
            self._passing = False
        self._marked.append((function, mode, tensor, stand_in))
        return stand_in

    def check(self, results: Sequence[Tensor], options: Options) -> None:
        """Refuse what the device cannot overlap.

        Args:
            results: the tensors that `forward` returned.

        Raises:
            poptorch.Error: the tensor is no input or output or used otherwise as well, or options
                do not allow for overlapped transfers.
        """
        returned = [id(tensor) for tensor in results]
        for function, mode, tensor, stand_in in self._marked:
            if function == INPUT:
                self._check_input(tensor, returned)
            else:
                self._check_output(tensor, stand_in, returned)
            if mode is not OverlapMode.NoOverlap:
                _check_options(options)

    def _check_input(self, tensor: Tensor, returned: List[int]) -> None:
        if id(tensor) not in self._inputs:
            raise createPoptorchError(
                f"poptorch.{INPUT} applied to a tensor that is not an input of the model: call it"
                " at the start of forward, on forward's own arguments"
            )
        marks = sum(function == INPUT and one is tensor for function, _, one, _ in self._marked)
        if marks + self._read.get(id(tensor), 0) + returned.count(id(tensor)) > 1:
            raise createPoptorchError(
                f"poptorch.{INPUT} must be the only op applied to the input: input"
                f" {list(self._inputs).index(id(tensor))} is used otherwise as well. Use the tensor"
                " that it returned everywhere"
            )

    def _check_output(self, tensor: Tensor, stand_in: Tensor, returned: List[int]) -> None:
        if id(stand_in) not in returned:
            raise createPoptorchError(
                f"poptorch.{OUTPUT} applied to a tensor that is not an output of the model: forward"
                " must return what it gave back, as it is"
            )
        same = {id(tensor), id(stand_in)}
        same.update(id(other) for _, _, one, other in self._marked if one is tensor)
        if sum(returned.count(one) for one in same) > 1:
            raise createPoptorchError(
                f"poptorch.{OUTPUT}: the tensor is returned more than once, which overlapped"
                " transfers cannot do"
            )


def _overlap(function: str, tensors: S, mode: OverlapMode) -> S:
    assert isinstance(mode, OverlapMode), f"expected a poptorch.OverlapMode, got {mode!r}"
    others = [value for value in other_values(tensors) if value is not None]
    if others:
        raise createPoptorchError(
            f"poptorch.{function} takes tensors, in tuples, lists and dicts, got"
            f" {type(others[0]).__name__}"
        )
    capture = _state.current_capture()
    if capture is None:
        return tensors
    record = capture.overlaps
    marked: S = map_tensors(tensors, lambda tensor: record.mark(function, tensor, mode))
    return marked


def _check_options(options: Options) -> None:
    if isinstance(options._execution_strategy, PipelinedExecution):
        raise createPoptorchError(
            "Overlapped IO is not supported with poptorch.PipelinedExecution: use"
            " poptorch.ShardedExecution, also on one IPU"
        )
    if not options.TensorLocations.toDict().get("numIOTiles"):
        raise createPoptorchError(
            "No IO tiles allocated for overlapped transfers: set"
            " options.TensorLocations.numIOTiles(32) or more"
        )
    if options.output_mode not in (OutputMode.All, OutputMode.Sum):
        raise createPoptorchError(
            "Overlapped IO: the output mode must be poptorch.OutputMode.All or Sum, it is"
            f" {options.output_mode}"
        )
