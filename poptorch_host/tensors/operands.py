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


def without_number(func: Any, args: Tuple[Any, ...]) -> Tuple[Any, Tuple[Any, ...]]:
    """A bitwise operator's number as a tensor: torch 2.0's modes cannot pass it on otherwise.

    Returns:
        the operator to call and its arguments; those given unless they are such.
    """
    bitwise = func._schema.name.startswith("aten::bitwise") and len(args) == 2
    if not bitwise or isinstance(args[1], torch.Tensor):
        return func, args
    dtype = torch.bool if isinstance(args[1], bool) else torch.int64
    other = torch.full((), args[1], dtype=dtype, device=args[0].device)
    return func.overloadpacket.Tensor, (args[0], other)
