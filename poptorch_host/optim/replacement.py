"""Which optimizer may take the place of a compiled one: of the same kind, with its constants."""

from __future__ import annotations

from ..errors import createPoptorchError
from .converted import Converted, Value


def check_replacement(old: Converted, new: Converted) -> None:
    """Raise poptorch.Error when a compiled optimizer cannot become another one."""
    if old.kind != new.kind:
        raise createPoptorchError(
            f"Can not replace optimizer of type {old.kind} with new optimizer of type {new.kind}"
        )
    if old.max_grad_norm != new.max_grad_norm:
        raise createPoptorchError(
            "Clip norm settings do not match. max_grad_norm was"
            f" {old.max_grad_norm} when the model was compiled, now it is {new.max_grad_norm}"
        )
    if old.structure != new.structure or old.accum_type != new.accum_type:
        before = {**old.structure, "accum_type": old.accum_type}
        after = {**new.structure, "accum_type": new.accum_type}
        changed = [name for name, value in before.items() if after[name] != value]
        raise createPoptorchError(
            f"Can not replace {old.kind} optimizer: {', '.join(changed)} cannot change after"
            " compile; destroy() the executor to compile again"
        )
    if old.members != new.members:
        raise createPoptorchError(
            f"Can not replace {old.kind} optimizer: it had {len(old.members)} groups of weights"
            f" when the model was compiled, now it has {len(new.members)}; each must hold the same"
            " weights"
        )
    for name, value in old.wide.items():
        _check_value(name, value, new.wide[name])
    for index, group in enumerate(old.groups):
        for name, value in group.items():
            _check_value(f"{name} of group {index}", value, new.groups[index][name])


def _check_value(name: str, old: Value, new: Value) -> None:
    if not old.constant:
        return
    if not new.constant:
        raise createPoptorchError(
            f"Can not replace a constant value with a non constant value. {name} was compiled in"
            f" as {old.value}: pass it when the optimizer is made, or mark it with"
            " optimizer.variable_attrs.markAsVariable before compile"
        )
    if old.value != new.value:
        raise createPoptorchError(
            f"Values are constant but do not match. {name} was compiled in as {old.value}, now it"
            f" is {new.value}: mark it with optimizer.variable_attrs.markAsVariable before compile"
        )
