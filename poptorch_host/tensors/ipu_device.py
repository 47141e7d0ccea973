"""`device="ipu"` in `forward`: the device that everything runs on, whatever that is on this host.

PopTorch's device has that name while it captures a model, so programs for it may say it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from torch.overrides import TorchFunctionMode

_MOVES = ("to", "ipu")


class IpuDevice(TorchFunctionMode):
    """Makes and leaves tensors where they are when a function is told to use the IPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if not is_named(name, args, kwargs):
            return func(*args, **kwargs)
        left = without(name, args, kwargs)
        return args[0] if left is None else func(*left[0], **left[1])


def is_named(name: str, args: Sequence[Any], kwargs: Dict[str, Any]) -> bool:
    """Whether a call of the torch function `name` says that it means the IPU."""
    if name == "ipu" or _is_ipu(kwargs.get("device")):
        return True
    return name == "to" and any(_is_ipu(value) for value in args[1:])


def without(
    name: str, args: Sequence[Any], kwargs: Dict[str, Any]
) -> Optional[Tuple[Tuple[Any, ...], Dict[str, Any]]]:
    """The arguments of a call that names the IPU, without it.

    Returns:
        what is left to call with; None where nothing is: the tensor stays as it is.
    """
    kept = {key: value for key, value in kwargs.items() if not _is_ipu(value)}
    if name not in _MOVES:
        return tuple(args), kept
    others = [value for value in args[1:] if not _is_ipu(value)]
    converts = any(not isinstance(value, bool) for value in others) or "dtype" in kept
    return ((args[0], *others), kept) if name == "to" and converts else None


def _is_ipu(value: object) -> bool:
    if isinstance(value, torch.device):
        return value.type == "ipu"
    return isinstance(value, str) and value.partition(":")[0] == "ipu"
