"""Stages of a captured model: what runs where, the parameters it needs, and what passes on.

A stage is a run of operators on one (phase, stage, IPU); parameters count where they are used
first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Set, Tuple

import torch

from ..blocks.stage_resolver import Placement
from ..errors import createPoptorchError
from ..options import Options

Shape = Tuple[int, ...]

MAX_IPUS = 64
"""One process cannot use more; larger runs are distributed."""


@dataclass
class Stage:
    """One stage in order of execution."""

    stage: int
    """Number the strategy gave it."""
    phase: int
    """Phase it belongs to; 0 unless execution is phased."""
    ipu: int
    """IPU within one replica."""
    blocks: List[str] = field(default_factory=list)
    """Ids of the blocks in it; empty for what runs before the first block."""
    operators: int = 0
    """Operators executed in it, per micro-batch."""
    parameter_bytes: int = 0
    """Parameters and buffers used first here."""
    outputs: List[Shape] = field(default_factory=list)
    """Shapes (per micro-batch) of its tensors that a later stage reads."""

    def render(self) -> str:
        """One line of text."""
        sent = ", ".join("x".join(map(str, shape)) for shape in self.outputs) or "nothing"
        return (
            f"stage {self.stage} on IPU {self.ipu}: {self.operators} operators,"
            f" {self.parameter_bytes} bytes of parameters, passes on {sent}"
        )


class StageRecorder:
    """Collects stages while a model is captured."""

    def __init__(self) -> None:
        self._stages: Dict[Tuple[int, int, int], Stage] = {}
        self._seen_weights: Set[int] = set()
        self._producers: Dict[int, Stage] = {}
        self._alive: List[torch.Tensor] = []  # ids in the table above stay theirs
        self._sent: Set[int] = set()

    def add(
        self,
        placement: Placement,
        read: Sequence[torch.Tensor],
        written: Sequence[torch.Tensor],
        weights: Dict[int, int],
    ) -> None:
        """Count one operator.

        Args:
            placement: where it runs.
            read: tensors it takes.
            written: tensors it makes.
            weights: bytes of each parameter and buffer by `id` of the tensor.
        """
        stage = self.enter(placement)
        stage.operators += 1
        for tensor in read:
            key = id(tensor)
            if key in weights and key not in self._seen_weights:
                self._seen_weights.add(key)
                stage.parameter_bytes += weights[key]
            producer = self._producers.get(key)
            if producer is not None and producer is not stage and key not in self._sent:
                self._sent.add(key)
                producer.outputs.append(tuple(tensor.shape))
        for tensor in written:
            if id(tensor) not in self._producers:
                self._producers[id(tensor)] = stage
                self._alive.append(tensor)

    def enter(self, placement: Placement) -> Stage:
        """The stage of a placement, made on first sight."""
        key = (placement.phase, placement.stage, placement.ipu)
        if key not in self._stages:
            self._stages[key] = Stage(placement.stage, placement.phase, placement.ipu)
        stage = self._stages[key]
        if placement.block_id is not None and placement.block_id not in stage.blocks:
            stage.blocks.append(placement.block_id)
        return stage

    def result(self) -> List[Stage]:
        """Stages with at least one operator, in order of first use."""
        return [stage for stage in self._stages.values() if stage.operators]


def check_ipus(placements: Sequence[Placement], options: Options) -> int:
    """IPUs the model takes on all replicas of this process; (largest IPU id + 1) * R.

    Raises:
        poptorch.Error: no power of two (unless autoRoundNumIPUs), or more than 64.
    """
    used = (1 + max(placement.ipu for placement in placements)) * options.replication_factor
    if used > MAX_IPUS:
        raise createPoptorchError(
            f"Too many IPUs requested ({used}). Experiments that need more than {MAX_IPUS} IPUs"
            " require distributed execution."
        )
    rounded = 1 << (used - 1).bit_length()
    if rounded != used and not options.auto_round_num_ipus:
        raise createPoptorchError(
            f"The model specifies the use of {used} IPUs, however PopTorch must reserve a minimum"
            f" of {rounded} in order to allow the model to run, because the number of IPUs"
            " requested must be a power of two. Reserve them with"
            " poptorch.Options().autoRoundNumIPUs(True)."
        )
    return rounded
