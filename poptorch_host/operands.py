"""What a dispatched operator reads, writes and aliases, by its schema."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Tuple

import torch


def tensors_in(values: Iterable[Any]) -> List[torch.Tensor]:
    """Tensors among arguments or results, lists and tuples included, in order."""
    found: List[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found


def is_view(func: Any) -> bool:
    """Whether an operator's result is a view of an argument."""
    returns = func._schema.returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def written_by(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> List[torch.Tensor]:
    """Tensors an operator writes into."""
    written: List[torch.Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            written += tensors_in([value])
    return written
