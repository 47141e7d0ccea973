"""What a capture finds: all that the engine must know about a model beside the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

import torch

from ..blocks.stage_resolver import Placement
from .loss import LossPoint
from .operators import CaptureReport


@dataclass
class Program:
    """A captured model, without its weights. Can be pickled."""

    outputs: Any
    """What `forward` returned, with meta tensors of the shapes of one micro-batch."""
    constants: Dict[int, torch.Tensor] = field(default_factory=dict)
    """Results made on the CPU: returned as they are; by position among the outputs' tensors."""
    written_inputs: Tuple[int, ...] = ()
    """Input tensors that `forward` changes, by position."""
    written_buffers: Tuple[str, ...] = ()
    """Floating buffers that `forward` changes."""
    frozen_buffers: Tuple[str, ...] = ()
    """Other buffers that `forward` changes: constants on the device, so they are put back."""
    attributes: Tuple[Tuple[str, str], ...] = ()
    """(module, name) of Python attributes that `forward` sets."""
    writes_constants: bool = False
    """`forward` changes tensors that are plain attributes: constants, so they are put back."""
    uses_half: bool = False
    uses_random: bool = False
    names_ipu: bool = False
    """`forward` says `device="ipu"`."""
    depends_on_layout: bool = False
    """`forward` looks at strides (`view`, ...), so memory formats matter."""
    checkpoints: int = 0
    """Calls of `recomputationCheckpoint`."""
    loss: Optional[LossPoint] = None
    """What is differentiated; None in inference."""
    placements: Tuple[Placement, ...] = ()
    """Blocks in order of execution."""
    tensors: Dict[str, Tuple[Tuple[int, ...], torch.dtype]] = field(default_factory=dict)
    """Shape and dtype of every named tensor that `forward` computes, in order."""
    report: CaptureReport = field(default_factory=CaptureReport)
