"""Pipeline stages from module names; the only file of the detectors that knows of stages.

A model without splits is one stage. Each name starts the next stage: the modules that run from
there on, until the next name, sit on the next device.
"""

from __future__ import annotations

import difflib
from typing import Dict, Sequence, TypeVar

from torch import nn

from poplar_ops.runtime import poptorch

__all__ = ["apply_splits"]

Model = TypeVar("Model", bound=nn.Module)


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
    modules = dict(model.named_modules())
    chosen: Dict[str, nn.Module] = {}
    for name in names:
        full = name if name in modules and name else f"network.{name}"
        if full not in modules:
            raise ValueError(_unknown(model, name, list(modules)))
        if isinstance(modules[full], (nn.ModuleList, nn.ModuleDict)):
            children = [f"{name}.{child}" for child, _ in modules[full].named_children()]
            raise ValueError(
                f"pipeline.splits '{name}' is a list of modules, which starts no stage;"
                f" name one of {children}"
            )
        if full in chosen:
            raise ValueError(f"pipeline.splits has '{name}' twice; each module starts one stage")
        chosen[full] = modules[full]
    for stage, (name, module) in enumerate(chosen.items(), start=1):
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, poptorch.BeginBlock(module, user_id=name, ipu_id=stage))
    return model


def _unknown(model: nn.Module, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(
        f"network.{name}", known, n=3
    )
    children = [child for child, _ in model.named_children()]
    return (
        f"pipeline.splits '{name}' is no module of {type(model).__name__};"
        f" its children are {children}" + (f"; did you mean {near}?" if near else "")
    )
