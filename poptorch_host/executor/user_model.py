"""The user's model while it is trained: reading its weights pulls them from the device.

The model's class becomes a subclass named `Poptorch<Class>`, those of its parameters and buffers
`PoptorchParameter` and `PoptorchBuffer`; `isinstance`, `state_dict`, copies and pickles stay as
they were.
"""

from __future__ import annotations

import contextlib
import copyreg
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Type, cast

import torch
from torch import nn

from ..enums import CommGroupType, VariableRetrievalMode
from ..errors import createPoptorchError
from ..tensors.clones import PLAIN_CLASS
from .parameter_views import Group

_WRAPPINGS = "_poptorch_wrappings"  # of a tensor: the executors that train it, the latest last


class Wrapping:
    """What ties a user's model to the training executor that owns its weights."""

    def __init__(
        self,
        model: nn.Module,
        pull: Callable[[], object],
        destroy: Callable[[], None],
        group: Group,
    ) -> None:
        """Swap the classes.

        Args:
            pull: copies the device's weights to the host if they are newer.
            destroy: ends the executor; what `model.destroy()` calls.
            group: sets the groups of replicas that share a parameter.

        Raises:
            RuntimeError: the model, or a module of it, is wrapped already.
            poptorch.Error: a parameter or buffer has a class of its own.
        """
        tensors = list(model.parameters()) + list(model.buffers())
        if any(hasattr(type(module), PLAIN_CLASS) for module in model.modules()):
            raise RuntimeError(
                "Model has already been wrapped in 'poptorch.trainingModel'. Call model.destroy()"
                " on the model to unwrap before wrapping again."
            )
        _check_classes(model)
        for earlier in wrappings_of(tensors):  # of other models that hold some of these tensors
            earlier.pull()
        self.pull: Callable[[], object] = pull
        self.destroy = destroy
        self.group = group
        self.version = 0
        """Grows when the host's weights change by way of the executor."""
        self._model = model
        self._tensors = tensors
        self._active = True
        model.__class__ = _subclass(type(model), self)
        self._dress()

    def dress_new(self) -> None:
        """Swap the classes of tensors that replaced others of the model."""
        named = [*self._model.parameters(), *self._model.buffers()]
        self._tensors += [
            tensor for tensor in named if type(tensor) in (nn.Parameter, torch.Tensor)
        ]
        self._dress()

    def _dress(self) -> None:
        for tensor in self._tensors:
            wrappings = tensor.__dict__.setdefault(_WRAPPINGS, [])
            if self not in wrappings:
                wrappings.append(self)
                _dress(tensor)

    def unwrap(self) -> None:
        """Put the classes back."""
        if not self._active:
            return
        self._active = False
        self._model.__class__ = getattr(type(self._model), PLAIN_CLASS)
        for tensor in self._tensors:
            wrappings = tensor.__dict__[_WRAPPINGS]
            wrappings.remove(self)
            if not wrappings:
                _undress(tensor)
                delattr(tensor, _WRAPPINGS)


class PoptorchParameter(nn.Parameter):
    """A parameter whose value may be on the device."""

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
        wrapping: Wrapping = self.__dict__[_WRAPPINGS][-1]
        wrapping.group(self, comm_group_type, shards, variable_retrieval_mode)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Pull, then do what a plain tensor does."""
        return _pulled(func, types, args, kwargs)

    def __deepcopy__(self, memo: Dict[int, Any]) -> nn.Parameter:
        if id(self) not in memo:
            memo[id(self)] = nn.Parameter(self.detach().clone(), self.requires_grad)
        return cast(nn.Parameter, memo[id(self)])

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain: Any = nn.Parameter(self.detach(), self.requires_grad)
        return plain.__reduce_ex__(protocol)

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes keywords
        return repr(nn.Parameter(self.detach(), self.requires_grad))


class PoptorchBuffer(torch.Tensor):
    """A buffer whose value may be on the device."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Pull, then do what a plain tensor does."""
        return _pulled(func, types, args, kwargs)

    def __deepcopy__(self, memo: Dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            memo[id(self)] = self.detach().clone()
        return cast(torch.Tensor, memo[id(self)])

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain: Any = self.detach()
        return plain.__reduce_ex__(protocol)

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes keywords
        return repr(self.detach())


def is_dressed(tensor: torch.Tensor) -> bool:
    """Whether reading a tensor pulls it."""
    return type(tensor) in _DRESSED


def wrappings_of(tensors: Sequence[torch.Tensor]) -> List[Wrapping]:
    """The wrappings that own any of these tensors, the latest of each tensor, each once."""
    found = []
    for tensor in tensors:
        if type(tensor) in _DRESSED:
            wrapping = tensor.__dict__[_WRAPPINGS][-1]
            if wrapping not in found:
                found.append(wrapping)
    return found


@contextlib.contextmanager
def plain_tensors(model: nn.Module) -> Iterator[None]:
    """Inside, the model's tensors have torch's own classes, for code that must not pull."""
    tensors = [*model.parameters(), *model.buffers()]
    dressed = [tensor for tensor in tensors if type(tensor) in _DRESSED]
    for tensor in dressed:
        _undress(tensor)
    try:
        yield
    finally:
        for tensor in dressed:
            _dress(tensor)


_DRESSED = (PoptorchParameter, PoptorchBuffer)
_NEED_NO_VALUE = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in (
        "is_leaf",
        "requires_grad",
        "shape",
        "dtype",
        "device",
        "layout",
        "grad_fn",
        "ndim",
    )
) | {torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point}
"""What optimizers and programs ask of weights at every step, without reading them."""


def _dress(tensor: torch.Tensor) -> None:
    kind = PoptorchParameter if isinstance(tensor, nn.Parameter) else PoptorchBuffer
    tensor.__class__ = kind


def _undress(tensor: torch.Tensor) -> None:
    kind = nn.Parameter if type(tensor) is PoptorchParameter else torch.Tensor
    tensor.__class__ = kind


def _pulled(
    func: Callable[..., Any], types: Any, args: Tuple[Any, ...], kwargs: Optional[Dict[str, Any]]
) -> Any:
    if func not in _NEED_NO_VALUE:
        for wrapping in wrappings_of(_tensors_in([*args, *(kwargs or {}).values()])):
            wrapping.pull()
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))


def _tensors_in(values: Sequence[Any]) -> List[torch.Tensor]:
    found: List[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors_in(value)
    return found


def _check_classes(model: nn.Module) -> None:
    for name, tensor in model.named_parameters():
        if type(tensor) not in (nn.Parameter, PoptorchParameter):
            raise createPoptorchError(
                f"All parameters must be an instance of torch.nn.Parameter (Got {type(tensor)}"
                f" for {name})"
            )
    for name, buffer in model.named_buffers():
        if type(buffer) not in (torch.Tensor, PoptorchBuffer):
            raise createPoptorchError(
                f"All buffers must be an instance of torch.Tensor (Got {type(buffer)} for {name})"
            )


def _new(kind: Type[nn.Module], *args: Any) -> nn.Module:
    return kind.__new__(kind, *args)


def _subclass(kind: Type[nn.Module], wrapping: Wrapping) -> Type[nn.Module]:
    def destroy(self: nn.Module) -> None:
        """End the training executor and make this a plain module again."""
        wrapping.destroy()

    def reduce_ex(self: nn.Module, protocol: Any) -> Any:
        plain = kind.__new__(kind)
        plain.__dict__.update(self.__dict__)
        reduced = plain.__reduce_ex__(protocol)
        if isinstance(reduced, tuple) and reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return (_new, *reduced[1:])  # pickle accepts __newobj__ for an object's own class only
        return reduced

    body = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "__reduce_ex__": reduce_ex,
        "destroy": destroy,
        PLAIN_CLASS: kind,
    }
    metaclass: Any = type(kind)
    subclass: Type[nn.Module] = metaclass(f"Poptorch{kind.__name__}", (kind,), body)
    return subclass
