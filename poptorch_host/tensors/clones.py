"""A second copy of a module tree around other tensors: fake ones, or the engine's own.

Copied are modules, containers and bound methods that lead to a module or tensor; every other
attribute is shared. A tensor met twice (tied weights, the flat weight list of an LSTM) is one
tensor in the copy as well.
"""

from __future__ import annotations

import functools
import types
from typing import Any, Callable, Dict, Set

import torch
from torch import nn

_ATOMS = (type(None), bool, int, float, str)  # most attributes of a module

Convert = Callable[[torch.Tensor], torch.Tensor]
PLAIN_CLASS = "_poptorch_plain_class"
"""Attribute of a class that stands in for a module's own one while the module is trained."""


def shallow_copy(module: nn.Module) -> nn.Module:
    """The module as another object with the same attributes.

    As `copy.copy`, which refuses modules that do not want to be pickled (parametrized ones).
    """
    copy = _new(module)
    copy.__dict__.update(module.__dict__)
    return copy


def _new(module: nn.Module) -> nn.Module:
    kind = getattr(type(module), PLAIN_CLASS, type(module))
    empty: nn.Module = object.__new__(kind)  # a GraphModule's own __new__ makes another class
    return empty


class Cloner:
    """Copies module trees; equal objects in, equal objects out."""

    def __init__(self, convert: Convert, *, isolate: bool) -> None:
        """Make a cloner.

        Args:
            convert: the tensor that takes a tensor's place; called once for each.
            isolate: copy lists, dicts and sets even if they lead to no tensor, so that what
                `forward` does to them stays in the copy.
        """
        self._convert = convert
        self._isolate = isolate
        self._memo: Dict[int, Any] = {}
        self._alive: Dict[int, Any] = {}  # keeps ids of temporary containers from being used again
        self._registered: Set[int] = set()  # parameters and buffers, by id

    def clone(self, value: Any) -> Any:
        """The copy of a module, tensor, container or bound method; any other value itself."""
        if type(value) in _ATOMS:
            return value
        known = self._memo.get(id(value), self)
        if known is not self:
            return known
        copy = self._copy(value)
        self._memo[id(value)] = copy
        self._alive[id(value)] = value
        return copy

    def tensors_of_attributes(self) -> Dict[int, torch.Tensor]:
        """Original tensors that are plain attributes, by `id` of what took their place."""
        return {
            id(self._memo[key]): tensor
            for key, tensor in self._alive.items()
            if isinstance(tensor, torch.Tensor) and key not in self._registered
        }

    def copies_of_attributes(self) -> Dict[int, torch.Tensor]:
        """What took the place of tensors that are plain attributes, by its own `id`."""
        return {
            id(self._memo[key]): self._memo[key]
            for key, tensor in self._alive.items()
            if isinstance(tensor, torch.Tensor) and key not in self._registered
        }

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._convert(value)
        if isinstance(value, nn.Module):
            return self._copy_module(value)
        if isinstance(value, dict):
            return self._copy_dict(value)
        if isinstance(value, (list, set)) or type(value) is tuple or hasattr(value, "_fields"):
            return self._copy_sequence(value)
        if isinstance(value, types.MethodType):
            owner = self.clone(value.__self__)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        if type(value) is functools.partial:
            return functools.partial(
                self.clone(value.func),
                *[self.clone(argument) for argument in value.args],
                **{name: self.clone(argument) for name, argument in value.keywords.items()},
            )
        return value

    def _copy_module(self, module: nn.Module) -> nn.Module:
        copy = _new(module)
        self._memo[id(module)] = copy  # before its attributes, which may refer to it
        for table in (module._parameters, module._buffers):
            self._registered.update(id(tensor) for tensor in table.values())
        for name, value in module.__dict__.items():
            copy.__dict__[name] = self.clone(value)
        return copy

    def _copy_dict(self, value: Dict[Any, Any]) -> Dict[Any, Any]:
        items = {key: self.clone(item) for key, item in value.items()}
        if not self._isolate and all(items[key] is item for key, item in value.items()):
            return value
        try:
            copy = value.copy()  # keeps the type, a default factory, the order
        except Exception:
            return value
        copy.update(items)
        return copy

    def _copy_sequence(self, value: Any) -> Any:
        items = [self.clone(item) for item in value]
        changed = any(new is not old for new, old in zip(items, value))
        if not changed and not (self._isolate and isinstance(value, (list, set))):
            return value
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return type(value)(items)
