"""`forward` of a training model in one process, keeping little of it for the way back."""

from __future__ import annotations

from typing import List, Optional

import torch
from torch import nn

from .._logging import logger
from ..capture.program import Program
from ..errors import Error
from ..settings import Settings
from ..tensors.arguments import Arguments
from ..tensors.structure import rebuild
from .exported import check_torch
from .parts import whole


class RecomputedForward:
    """Runs a module tree's `forward` as a graph whose activations are computed once more.

    The graph is made at the first run, which knows the inputs' memory formats.
    """

    def __init__(self, tree: nn.Module, program: Program, arguments: Arguments) -> None:
        """Take the tree; arguments are nested as those of a call, their tensors are not used."""
        self._tree = tree
        self._program = program
        self._arguments = arguments
        self._module: Optional[nn.Module] = None

    def prepare(self, inputs: List[torch.Tensor]) -> bool:
        """Make the graph if there is none; whether there is one now.

        A model that cannot be a graph keeps all activations, which is said once.
        """
        if self._module is not None:
            return True
        tensors = iter(inputs)
        args = tuple(rebuild(value, tensors) for value in self._arguments.args)
        kwargs = {name: rebuild(value, tensors) for name, value in self._arguments.kwargs.items()}
        arguments = self._arguments._replace(args=args, kwargs=kwargs)
        try:
            self._module = whole(self._tree, self._program, arguments)
        except Error as error:
            logger.warning("Nothing is recomputed, all activations are kept: %s", error.message)
            return False
        return True

    def __call__(self, inputs: List[torch.Tensor]) -> List[torch.Tensor]:
        """The tensors of the result, then the loss."""
        assert self._module is not None
        return list(self._module(*inputs))


def is_wanted(program: Program, settings: Settings) -> bool:
    """Whether a training model in one process recomputes; says so if torch cannot."""
    if settings.recompute == "never" or (settings.recompute == "auto" and not program.checkpoints):
        return False
    try:
        check_torch("Recomputation")
    except Error as error:
        logger.warning("Nothing is recomputed, all activations are kept: %s", error.message)
        return False
    return True
