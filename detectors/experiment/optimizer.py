"""The optimizer that a recipe asks for, PopTorch's or torch's."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Dict, List

import torch
from torch import nn

from detectors.experiment.recipe import Algorithm, OptimSettings
from poplar_ops.runtime import poptorch as runtime

__all__ = ["build_optimizer"]

CLIPS = (Algorithm.sgd, Algorithm.adam, Algorithm.adamw)
"""Optimizers of PopTorch that have `max_grad_norm`."""


def build_optimizer(
    module: nn.Module, optim: OptimSettings, *, poptorch: bool
) -> torch.optim.Optimizer:
    """Of the parameters that require a gradient.

    Args:
        module: what is trained.
        optim: settings; `lr` is where it starts, `learning_rate` says how it goes on.
        poptorch: of `poptorch.optim`, for a training executor; else of `torch.optim`.

    Raises:
        ValueError: the optimizer lacks what the settings ask for.
    """
    options: Dict[str, Any] = {"lr": optim.lr, "weight_decay": optim.weight_decay}
    if optim.name in (Algorithm.sgd, Algorithm.rmsprop):
        options["momentum"] = optim.momentum
    kinds: ModuleType = torch.optim
    if poptorch:
        kinds = runtime.optim
        options.update(poptorch_attributes(optim))
    else:
        refuse_for_torch(optim)
    kind = {
        Algorithm.sgd: "SGD",
        Algorithm.adam: "Adam",
        Algorithm.adamw: "AdamW",
        Algorithm.rmsprop: "RMSprop",
        Algorithm.lamb: "LAMB",
    }[optim.name]
    made: torch.optim.Optimizer = getattr(kinds, kind)(groups(module, optim), **options)
    return made


def groups(module: nn.Module, optim: OptimSettings) -> List[Dict[str, Any]]:
    """One group, or with `bias_decay` false a second one, not decayed, of all that is a vector:
    biases, and scales and shifts of norms.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError(
            "no parameter is to be trained: lower model.frozen_stages, or take modules out of"
            " model.frozen"
        )
    if optim.bias_decay:
        return [{"params": trained}]
    decayed = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    both: List[Dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in both if group["params"]]


def poptorch_attributes(optim: OptimSettings) -> Dict[str, Any]:
    """What only PopTorch's optimizers have."""
    found: Dict[str, Any] = {"loss_scaling": optim.loss_scaling}
    if optim.max_grad_norm:
        if optim.name not in CLIPS:
            raise ValueError(
                f"optim.max_grad_norm={optim.max_grad_norm}: PopTorch's {optim.name.name} does not"
                f" clip gradients; set it to 0, or optim.name to one of"
                f" {', '.join(one.name for one in CLIPS)}"
            )
        found["max_grad_norm"] = optim.max_grad_norm
    return found


def refuse_for_torch(optim: OptimSettings) -> None:
    """Raise for what a plain Trainer does, or torch has not."""
    if optim.name is Algorithm.lamb:
        raise ValueError("optim.name=lamb: torch has none; it is one of PopTorch's optimizers")
    if optim.max_grad_norm:
        raise ValueError(
            f"optim.max_grad_norm={optim.max_grad_norm}: without PopTorch the Trainer clips; set"
            f" Trainer(gradient_clip_val={optim.max_grad_norm}) and optim.max_grad_norm=0"
        )
    if optim.loss_scaling != 1:
        raise ValueError(
            f"optim.loss_scaling={optim.loss_scaling}: without PopTorch the Trainer scales; set"
            ' Trainer(precision="16-mixed") and optim.loss_scaling=1'
        )
