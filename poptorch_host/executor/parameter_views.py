"""What an inference executor gives for its model's parameters: themselves, and `replicaGrouping`.

A training executor needs none of this: parameters are `PoptorchParameter` while they are trained.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, Optional, Tuple, Type

import torch
from torch import nn

from ..enums import CommGroupType, VariableRetrievalMode

Group = Callable[[nn.Parameter, CommGroupType, int, VariableRetrievalMode], None]
"""Sets the grouping of a parameter."""


class ParameterView(nn.Parameter):
    """Stands for a parameter: whatever torch does to it is done to the parameter."""

    _viewed: nn.Parameter
    _group: Group

    @classmethod
    def of(cls, parameter: nn.Parameter, group: Group) -> ParameterView:
        """A view."""
        made = torch.Tensor._make_subclass(cls, parameter.detach(), parameter.requires_grad)
        made.__dict__.update(_viewed=parameter, _group=group)
        return made

    def replicaGrouping(
        self,
        comm_group_type: CommGroupType,
        shards: int,
        variable_retrieval_mode: VariableRetrievalMode,
    ) -> None:
        """Let groups of replicas have values of their own; before compiling.

        Args:
            comm_group_type: how replicas are grouped.
            shards: replicas in a group.
            variable_retrieval_mode: whether the host gets one value per group, or per replica.
        """
        self._group(self._viewed, comm_group_type, shards, variable_retrieval_mode)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Do it to the parameter."""
        return func(*_unwrapped(args), **_unwrapped(kwargs or {}))

    def __deepcopy__(self, memo: Dict[int, Any]) -> Any:
        return copy.deepcopy(self._viewed, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        viewed: Any = self._viewed
        return viewed.__reduce_ex__(protocol)

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes keywords
        return repr(self._viewed)


def view_of(value: Any, group: Group, modules: bool) -> Any:
    """A view of a parameter or, if asked, of a module with views of its parameters; else itself."""
    if isinstance(value, nn.Parameter) and not isinstance(value, ParameterView):
        return ParameterView.of(value, group)
    if modules and isinstance(value, nn.Module):
        return _module_view(value, group)
    return value


def _module_view(module: nn.Module, group: Group) -> nn.Module:
    """An object with the module's own attributes, so that what is set on one is set on both."""
    kind = type(module)

    def getattribute(self: nn.Module, name: str) -> Any:
        return view_of(kind.__getattr__(self, name), group, True)

    body = {
        "__module__": kind.__module__,
        "__getattr__": getattribute,
        "__eq__": lambda self, other: self.__dict__ is getattr(other, "__dict__", None),
        "__hash__": lambda self: hash(module),
        "__reduce_ex__": lambda self, protocol: module.__reduce_ex__(protocol),
    }
    metaclass: Any = type(kind)
    subclass: Type[nn.Module] = metaclass(kind.__name__, (kind,), body)
    view: nn.Module = object.__new__(subclass)
    view.__dict__ = module.__dict__
    return view


def _unwrapped(value: Any) -> Any:
    if isinstance(value, ParameterView):
        return value.__dict__["_viewed"]
    if isinstance(value, dict):
        return {key: _unwrapped(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_unwrapped(item) for item in value)
    return value
