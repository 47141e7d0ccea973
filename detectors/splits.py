"""Pipeline stages from module names; the only file of the detectors that knows of stages.

A model without splits is one stage. Each name starts the next stage: the modules that run from
there on, until the next name, sit on the next device.
"""

from __future__ import annotations

import difflib
from typing import Dict, Sequence, TypeVar

from torch import nn

from poplar_ops.runtime import poptorch

__all__ = ["apply_splits", "named_modules_of"]

Model = TypeVar("Model", bound=nn.Module)
LISTS = {"splits": "starts no stage", "checkpoints": "has no inputs"}  # of a module that never runs


def apply_splits(model: Model, names: Sequence[str]) -> Model:
    """Start a stage at each named module, in order; stage 0 is what runs before the first.

    Args:
        model: changed in place.
        names: as `named_modules` lists them, such as "network.class_head"; "network." may be
            left out.

    Returns:
        The model.

    Raises:
        ValueError: a name is unknown, given twice, or of a list of modules, which never runs.
    """
    chosen = named_modules_of(model, names, "splits")
    modules = dict(model.named_modules())
    for stage, (name, module) in enumerate(chosen.items(), start=1):
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, poptorch.BeginBlock(module, user_id=name, ipu_id=stage))
    return model


def named_modules_of(model: nn.Module, names: Sequence[str], key: str) -> Dict[str, nn.Module]:
    """The modules by their whole names, in the order of `names`.

    Args:
        model: not changed.
        names: as `apply_splits` takes them.
        key: of the recipe's section `pipeline`, for messages.

    Raises:
        ValueError: as `apply_splits`.
    """
    modules = dict(model.named_modules())
    chosen: Dict[str, nn.Module] = {}
    for name in names:
        full = name if name in modules and name else f"network.{name}"
        if full not in modules:
            raise ValueError(_unknown(model, name, list(modules), key))
        if isinstance(modules[full], (nn.ModuleList, nn.ModuleDict)):
            children = [f"{name}.{child}" for child, _ in modules[full].named_children()]
            raise ValueError(
                f"pipeline.{key} '{name}' is a list of modules, which {LISTS[key]};"
                f" name one of {children}"
            )
        if full in chosen:
            raise ValueError(f"pipeline.{key} has '{name}' twice; name each module once")
        chosen[full] = modules[full]
    return chosen


def _unknown(model: nn.Module, name: str, known: Sequence[str], key: str) -> str:
    near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(
        f"network.{name}", known, n=3
    )
    children = [child for child, _ in model.named_children()]
    return (
        f"pipeline.{key} '{name}' is no module of {type(model).__name__};"
        f" its children are {children}" + (f"; did you mean {near}?" if near else "")
    )
