"""`inferenceModel`, `trainingModel` and `load`: how executors are made."""

from __future__ import annotations

from typing import Callable, Optional, Union

import torch
from torch import nn

from ..executable.executable import Executable, PathLike
from ..options import Options
from .executor import PoplarExecutor
from .training import TrainingExecutor


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
    """Wrap a model for training: a call runs forward and backward, and updates the weights.

    Works on a shallow copy; the user's module becomes one whose weights, when they are read, are
    those of the device, until `destroy()`. The mode (train or eval) is not changed.

    Args:
        model: its `forward` computes the loss: `poptorch.identity_loss`, or one of torch's.
        optimizer: of `poptorch.optim`, or torch's SGD, Adam, AdamW or RMSprop; only its attributes
            are read. SGD with lr=0.01 by default.

    Raises:
        RuntimeError: the model is wrapped for training already.
        AssertionError: an optimizer of another type.
        ValueError: an optimizer that has no parameter of the model.
        poptorch.Error: wrong options, or a parameter or buffer with a class of its own.
    """
    return TrainingExecutor(model, options, optimizer)


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
        poptorch.Error: an edited option needs another compilation.
    """
    stored = Executable.load_with_model(filename, edit_opts_fn)
    if stored.executable.program.loss is None:
        executor = inferenceModel(stored.model, stored.options)
    else:
        executor = trainingModel(stored.model, stored.options, stored.optimizer)
    executor._adopt(stored.executable, stored.rng_state)
    return executor
