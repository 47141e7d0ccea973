"""Blocks of a model: which modules or statements belong together on one IPU.

Outside an executor everything here does nothing, so a model with blocks is a plain PyTorch model.
"""

from __future__ import annotations

import functools
import weakref
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar, Union

from torch import nn

from .. import _state
from ..errors import createPoptorchError

F = TypeVar("F", bound=Callable[..., Any])


class Block(nn.Module):
    """`with poptorch.Block("name", ipu_id=1):` puts what runs inside into one block.

    Leaving any `with Block` leaves all of them: what follows needs a block of its own.
    """

    def __init__(self, user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> None:
        super().__init__()
        self._user_id = user_id
        self._ipu_id = ipu_id

    def __enter__(self) -> Block:
        _begin(self._user_id, self._ipu_id)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        capture = _state.current_capture()
        if capture is not None:
            capture.end_block()

    @staticmethod
    def useAutoId() -> None:
        """Restart the automatic block ids at "0"; to be called first in `forward`."""
        capture = _state.current_capture()
        if capture is not None:
            capture.use_auto_id()

    @staticmethod
    def start(user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> None:
        """Begin a block that lasts until the next one begins."""
        _begin(user_id, ipu_id)


class BlockHook:
    """The forward pre-hook that begins a block."""

    def __init__(self, user_id: Optional[str], ipu_id: Optional[int]) -> None:
        self.user_id = user_id
        self.ipu_id = ipu_id

    def __call__(self, module: nn.Module, inputs: object) -> None:
        capture = _state.current_capture()
        user_id = self.user_id
        if capture is not None and user_id is None:
            user_id = _automatic_ids.get(self) or capture.next_auto_id()
            _automatic_ids[self] = user_id  # of all calls of this module
        _begin(user_id, self.ipu_id)

    def __repr__(self) -> str:
        user_id = _automatic_ids.get(self, self.user_id)
        return f"BeginBlock(user_id={user_id}, ipu_id={self.ipu_id})"


# Beside the hooks, not in them: a model is the same model, to the executable cache and to random
# numbers of a run, whether this process has captured it or found it in the cache.
_automatic_ids: weakref.WeakKeyDictionary[BlockHook, str] = weakref.WeakKeyDictionary()


class _BlockThenCall(nn.Module):
    """A function as a module that begins a block, then calls it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def BeginBlock(
    layer_to_call: Union[nn.Module, Callable[..., Any]],
    user_id: Optional[str] = None,
    ipu_id: Optional[int] = None,
) -> nn.Module:
    """Let a module begin a block each time it is called; the block lasts until the next begins.

    The module itself is changed, by a forward pre-hook, and returned: names of parameters,
    `state_dict` and `repr` stay what they were. A function is wrapped in a module.

    Args:
        layer_to_call: a module, or any callable.
        user_id: name of the block; None takes "0", "1", ... in order of execution.
        ipu_id: the IPU to run on; None leaves it to the strategy.

    Raises:
        poptorch.Error: the module begins a block already, or is no module and not callable.
    """
    if isinstance(layer_to_call, nn.Module):
        if block_hook(layer_to_call) is not None:
            raise createPoptorchError("module has already been assigned to a block.")
        module = layer_to_call
    elif callable(layer_to_call):
        module = _BlockThenCall(layer_to_call)
    else:
        raise createPoptorchError(
            "module is not an instance of torch.nn.Module or function."
            f" Got {type(layer_to_call).__name__}."
        )
    module.register_forward_pre_hook(BlockHook(user_id, ipu_id))
    return module


def BlockFunction(user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> Callable[[F], F]:
    """Decorator: the body of the function or method runs inside `Block(user_id, ipu_id)`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def in_block(*args: Any, **kwargs: Any) -> Any:
            with Block(user_id, ipu_id):
                return function(*args, **kwargs)

        return in_block  # type: ignore[return-value]

    return decorate


def removeBlocks(module: nn.Module) -> None:
    """Undo every `BeginBlock` on the module and its descendants.

    Raises:
        AssertionError: no module.
    """
    assert isinstance(module, nn.Module), f"removeBlocks expects a module, got {type(module)}"
    for descendant in module.modules():
        hooks = descendant._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, BlockHook)]:
            del hooks[key]


def block_hook(module: nn.Module) -> Optional[BlockHook]:
    """The hook that `BeginBlock` put on this very module, None if it begins no block."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BlockHook):
            return hook
    return None


def _begin(user_id: Optional[str], ipu_id: Optional[int]) -> None:
    capture = _state.current_capture()
    if capture is not None:
        capture.begin_block(user_id, ipu_id)
    elif _state.is_running():
        _state.begin_block(user_id)
