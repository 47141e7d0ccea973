"""`inferenceModel`, `trainingModel` and `load`: how executors are made."""

from __future__ import annotations

from typing import Callable, Optional, Union

import torch
from torch import nn

from .executable import Executable, PathLike
from .executor import TRAINING_LATER, PoplarExecutor
from .options import Options


def inferenceModel(
    model: Union[nn.Module, PoplarExecutor], options: Optional[Options] = None
) -> PoplarExecutor:
    """Wrap a model for inference; its first call compiles it.

    Works on a shallow copy: attributes set on `model` itself later are not seen, those of
    sub-modules are, until compile. The mode (train or eval) is not changed, and fixed at compile.

    Raises:
        poptorch.Error: wrong options.
    """
    return PoplarExecutor(model, options)


def trainingModel(
    model: Union[nn.Module, PoplarExecutor],
    options: Optional[Options] = None,
    optimizer: Optional[torch.optim.Optimizer] = None,
) -> PoplarExecutor:
    """Wrap a model for training: not available yet."""
    raise NotImplementedError(f"trainingModel: {TRAINING_LATER}")


def load(
    filename: PathLike,
    edit_opts_fn: Optional[Callable[[Options], object]] = None,
) -> PoplarExecutor:
    """Make an executor from a file that `save` wrote with its model.

    The file is a pickle: open only files you trust.

    Args:
        edit_opts_fn: may change the options before the executor is made.

    Raises:
        AssertionError: the file is unreadable, of another version, or has no model.
    """
    executable, model, options, rng_state = Executable.load_with_model(filename)
    if edit_opts_fn is not None:
        edit_opts_fn(options)
    executor = inferenceModel(model, options)
    executor._adopt(executable, rng_state)
    return executor
