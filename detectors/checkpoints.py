"""What a recomputed stage keeps, from module names: the inputs of these modules.

Backward computes a stage again from what it keeps, one segment after the other: with checkpoints
inside, less of it is alive at once. PopTorch's `recomputationCheckpoint` marks tensors and changes
no number.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple, TypeVar

from torch import Tensor, nn

from detectors.splits import named_modules_of
from poplar_ops.runtime import poptorch

__all__ = ["apply_checkpoints"]

Model = TypeVar("Model", bound=nn.Module)


def apply_checkpoints(model: Model, names: Sequence[str]) -> Model:
    """Keep the inputs of each named module for the way back of training.

    Args:
        model: changed in place: each module gets a hook.
        names: as `apply_splits` takes them.

    Returns:
        The model.

    Raises:
        ValueError: a name is unknown, given twice, or of a list of modules, which never runs.
    """
    for module in named_modules_of(model, names, "checkpoints").values():
        module.register_forward_pre_hook(keep_inputs)
    return model


def keep_inputs(module: nn.Module, arguments: Tuple[Any, ...]) -> Tuple[Any, ...]:
    """Mark what enters a module in training; in evaluation there is no way back."""
    return tuple(marked(one) for one in arguments) if module.training else arguments


def marked(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return poptorch.recomputationCheckpoint(argument)
    if isinstance(argument, (list, tuple)):
        return type(argument)(marked(one) for one in argument)
    return argument
