"""What an optimizer carries that a device does not know: ignored, and named once per kind."""

from __future__ import annotations

from typing import Any, Callable, Collection, List, Mapping

import torch

from .optimizer import Optimizer

_SWITCHES = frozenset(
    ["foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay", "amsgrad"]
)
"""torch's ways of computing the same, and what is checked elsewhere."""
_BOOKKEEPING = frozenset(["params", "initial_lr", "param_names"])
_OWN = frozenset(["defaults", "state", "param_groups", "variable_attrs"]) | frozenset(
    ["ipu_state_is_dirty", "host_state_is_dirty"]
)


def warn_of_unexpected(
    optimizer: torch.optim.Optimizer,
    attributes: Collection[str],
    group: Collection[str],
    warn: Callable[[str, str], None],
) -> None:
    """Name attributes and group entries that are not read.

    Args:
        attributes: those of the optimizer that are read.
        group: those of its groups that are read.
        warn: called with a kind of warning and its text.
    """
    known = {*group, *_SWITCHES, *_BOOKKEEPING}
    ours = isinstance(optimizer, Optimizer)  # takes `maximize` and, as PopTorch, ignores it

    def unexpected(values: Mapping[str, Any]) -> List[str]:
        names = [name for name in values if name not in known]
        return [name for name in names if name != "maximize" or (values[name] and not ours)]

    others = [
        name
        for name, value in vars(optimizer).items()
        if name not in attributes and name not in _OWN
        if not name.startswith("_") and not callable(value)
    ]
    found = [("default group variable", unexpected(optimizer.defaults))]
    found += [
        (f"group {index} attribute", unexpected(values))
        for index, values in enumerate(optimizer.param_groups)
    ]
    for what, names in [*found, ("optimizer attribute", others)]:
        if names:
            text = f"Ignoring unexpected {what} in {type(optimizer).__name__} optimizer: {names}"
            warn(what, text)
