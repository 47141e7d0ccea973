"""Nested arguments and results: their tensors in order, and the same nesting rebuilt around others.

A structure is a tensor, any other value, or a list, tuple, named tuple or mapping of structures, or
a type with a parser of its own. Mappings go in insertion order.
"""

from __future__ import annotations

import abc
import collections
from typing import Any, Callable, Dict, Iterator, List, Optional, Type

import torch

from ..errors import createPoptorchError


class ICustomArgParser(abc.ABC):
    """How to take the tensors out of a user's type, and put others in."""

    @abc.abstractmethod
    def yieldTensors(self, struct: Any) -> Iterator[torch.Tensor]:
        """Every tensor of `struct`, in an order of its own choice."""

    @abc.abstractmethod
    def reconstruct(self, original_structure: Any, tensor_iterator: Iterator[torch.Tensor]) -> Any:
        """A structure like the original with tensors taken from the iterator in that order."""


_PARSERS: Dict[type, ICustomArgParser] = {}


def registerCustomArgParser(
    custom_type: Type[Any], custom_parser: Optional[ICustomArgParser]
) -> None:
    """Use `custom_parser` for arguments and results of that type and its subclasses; None removes.

    Raises:
        poptorch.Error: the parser is no `ICustomArgParser`.
    """
    if custom_parser is None:
        _PARSERS.pop(custom_type, None)
        return
    if not isinstance(custom_parser, ICustomArgParser):
        raise createPoptorchError("arg_parser must inherit from ICustomArgParser")
    _PARSERS[custom_type] = custom_parser


def registerGeometricCustomArgParsers() -> None:
    """Parsers for PyTorch Geometric's types. Nothing to do without that package.

    Raises:
        NotImplementedError: torch_geometric is installed.
    """
    import importlib.util

    if importlib.util.find_spec("torch_geometric") is not None:
        raise NotImplementedError(
            "poptorch.registerGeometricCustomArgParsers has no parsers for torch_geometric yet;"
            " register your own with poptorch.registerCustomArgParser"
        )


def registered_parsers() -> Dict[type, ICustomArgParser]:
    """A copy of what `registerCustomArgParser` was given."""
    return dict(_PARSERS)


def replace_parsers(parsers: Dict[type, ICustomArgParser]) -> None:
    """Use exactly these parsers, in a process that is started with them."""
    _PARSERS.clear()
    _PARSERS.update(parsers)


def parser_of(value: object) -> Optional[ICustomArgParser]:
    """The parser registered for the type of `value`, or for its nearest base."""
    for base in type(value).__mro__:
        if base in _PARSERS:
            return _PARSERS[base]
    return None


def flatten(structure: object) -> List[torch.Tensor]:
    """Every tensor in the structure, depth first."""
    return list(_tensors(structure))


def other_values(structure: object) -> List[object]:
    """Everything in the structure that is neither a tensor nor inside a type with a parser."""
    if isinstance(structure, torch.Tensor) or parser_of(structure) is not None:
        return []
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        return [value for member in structure for value in other_values(member)]
    return [structure]


def rebuild(structure: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """The structure with its tensors replaced, in the order of `flatten`.

    Types are kept: list and tuple subclasses from an iterable, named tuples by fields, mappings
    from a dict. Values that are no tensors stay as they are.
    """
    if isinstance(structure, torch.Tensor):
        return next(tensors)
    parser = parser_of(structure)
    if parser is not None:
        return parser.reconstruct(structure, tensors)
    kind = type(structure)
    if isinstance(structure, collections.defaultdict):
        return kind(
            structure.default_factory,
            {key: rebuild(value, tensors) for key, value in structure.items()},
        )
    if isinstance(structure, dict):
        return kind({key: rebuild(value, tensors) for key, value in structure.items()})
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return kind(*[rebuild(value, tensors) for value in structure])
    if isinstance(structure, (list, tuple)):
        return kind([rebuild(value, tensors) for value in structure])
    return structure


def map_tensors(structure: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The structure with `function` applied to each tensor."""
    return rebuild(structure, iter([function(tensor) for tensor in flatten(structure)]))


def in_order_of(first: Any, value: Any) -> Any:
    """The structure `value` with the items of mappings in the order in which `first` has them.

    Keys are those of `first`; sequences become lists.
    """
    if isinstance(first, torch.Tensor) or parser_of(first) is not None:
        return value
    if isinstance(first, dict):
        return {key: in_order_of(member, value[key]) for key, member in first.items()}
    if isinstance(first, (list, tuple)):
        return [in_order_of(one, item) for one, item in zip(first, value)]
    return value


def _tensors(structure: object) -> Iterator[torch.Tensor]:
    if isinstance(structure, torch.Tensor):
        yield structure
        return
    parser = parser_of(structure)
    if parser is not None:
        yield from parser.yieldTensors(structure)
    elif isinstance(structure, dict):
        for value in structure.values():
            yield from _tensors(value)
    elif isinstance(structure, (list, tuple)):
        for value in structure:
            yield from _tensors(value)
