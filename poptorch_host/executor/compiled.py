"""What every part of an executor knows: its model, its options and what compiling made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Union

import torch
from torch import nn

from ..engine.engine import Engine
from ..engine.replica_grouping import Groupings
from ..errors import createPoptorchError
from ..executable.executable import Executable
from ..options import Options

if TYPE_CHECKING:  # it needs torch.distributed.pipelining
    from ..ranks.pipeline_engine import PipelineEngine

AnyEngine = Union[Engine, "PipelineEngine"]
NOT_COMPILED = "Model has not been compiled or has been destroyed."


class Compiled:
    """The attributes of `PoplarExecutor` that its parts share."""

    _options: Options
    _user_model: nn.Module
    _model: nn.Module
    """A shallow copy of the user's, with the class it had."""
    _executable: Optional[Executable]
    _engine: Optional[AnyEngine]
    _tensors: List[torch.Tensor]
    """The host's, of the model that is compiled."""
    _attached: bool
    _groupings: Groupings
    """Of weights that differ between replicas."""

    def isCompiled(self) -> bool:
        """Whether there is an executable."""
        return self._executable is not None

    def _running_engine(self) -> AnyEngine:
        if self._engine is None:
            raise createPoptorchError(NOT_COMPILED)
        return self._engine
