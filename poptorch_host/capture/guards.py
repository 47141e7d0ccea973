"""Tables of parameters and buffers that refuse to be written while `forward` is captured."""

from __future__ import annotations

from typing import Any, Dict, List

from torch import nn

from .refusals import refusal


class GuardedTable(Dict[str, Any]):
    """A module's table of parameters or buffers that refuses to be written while forward runs."""

    def __init__(self, kind: str, table: Dict[str, Any]) -> None:
        super().__init__(table)
        self.kind = kind
        self.closed = False

    def __setitem__(self, name: str, value: Any) -> None:
        exempt = name == "num_batches_tracked" or self.get(name) is value  # as `self.x += 1` ends
        if self.closed and name in self and not exempt:
            raise refusal(
                f"{self.kind} {name} is reassigned within the model when calling the forward"
                f" method. This is not supported. Consider using self.{name}.copy_(src) instead"
            )
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if self.closed:
            raise refusal(f"{name} is removed from the model when calling the forward method.")
        super().__delitem__(name)


def guard(model: nn.Module) -> List[GuardedTable]:
    """Put guarded tables into every module; open them again with `closed = False`."""
    guards = []
    for module in model.modules():
        for attribute, kind in (("_parameters", "Parameter"), ("_buffers", "Buffer")):
            table = GuardedTable(kind, module.__dict__[attribute])
            table.closed = True
            module.__dict__[attribute] = table
            guards.append(table)
    return guards
