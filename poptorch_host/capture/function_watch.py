"""Torch functions as `forward` calls them, before they become operators.

Here reads of values, device moves and factories look as the user wrote them, and composites that
PopTorch intercepts are still whole.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch.overrides import TorchFunctionMode

from .._logging import logger
from ..provenance import in_a_distribution, user_line
from ..tensors import half, ipu_device
from ..tensors.tensor_text import unavailable
from . import limits, loss, operators
from .operators import Use
from .recorder import Recorder
from .refusals import host_read, refusal

_READS = frozenset(
    ["item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"]
    + ["__complex__", "is_nonzero", "equal", "allclose"]
)
_FACTORIES = frozenset(
    ["tensor", "as_tensor", "zeros", "ones", "full", "empty", "arange", "linspace", "eye", "rand"]
    + ["randn", "randint", "randperm", "logspace", "scalar_tensor", "empty_strided"]
)
_LAYOUT = frozenset(["view", "view_as", "stride", "is_contiguous", "as_strided", "unfold"])
_LISTED_AS = {"cross_entropy": "cross_entropy_loss", "nll_loss": "nll_loss_nd"}


class FunctionWatch(TorchFunctionMode):
    """Checks torch functions, and tells the recorder which of them the user is calling."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._told_factory = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Check and run one torch function as the user called it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if isinstance(func, torch._ops.OpOverload) or not name:
            return func(*args, **kwargs)
        if ipu_device.is_named(name, args, kwargs):
            self._recorder.names_ipu = True
            left = ipu_device.without(name, args, kwargs)
            if left is None:
                return args[0]
            args, kwargs = left
        if name == "__repr__" or (name == "__format__" and not args[1]):
            return unavailable(args[0])
        if name in _READS or (name == "__format__" and args[0].dim() == 0):
            raise host_read(name)
        if name in ("cpu", "to", "cuda", "ipu"):
            self._check_move(name, args, kwargs)
        if name in _FACTORIES:
            self._check_factory(name, kwargs)
        if name in _LAYOUT:
            self._recorder.depends_on_layout = True
        problem = limits.check_function(name, args, kwargs)
        if problem is not None:
            raise refusal(problem)
        if name == "repeat_interleave":  # decomposes on new torch only
            self._recorder.unsupported.setdefault(
                "aten::repeat_interleave", Use("aten::repeat_interleave", user_line())
            )
        return self._call(name, func, args, kwargs)

    def _call(
        self, name: str, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Any:
        listed = f"aten::{_LISTED_AS.get(name, name)}"
        recorder = self._recorder
        outer = recorder.calling, recorder.intercepted
        recorder.calling = name
        if listed in operators.supported():
            recorder.intercepted = listed
        try:
            if name == "one_hot":  # torch 2.0 reads values to check them
                return _one_hot(*args, **kwargs)
            if name == "bincount":
                return _bincount(*args, **kwargs)
            if name == "cross_entropy":
                # Smoothing selects by a mask on torch 2.0; without it the shapes are the same.
                args, kwargs = args[:7], {**kwargs, "label_smoothing": 0.0}
            if name == "ctc_loss":  # its own shape function would need the lengths' values
                result = _ctc_loss(*args, **kwargs)
            else:
                result = half.call_in_input_dtype(func, args, kwargs)
            if recorder.losses is not None and name in loss.BUILT_IN:
                recorder.losses.mark(name, result)
            return result
        finally:
            recorder.calling, recorder.intercepted = outer

    def _check_move(self, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        targets = [value for value in (*args[1:], kwargs.get("device")) if _names_device(value)]
        if name in ("cpu", "cuda", "ipu"):
            targets = [name]
        for target in targets:
            if id(target) in self._recorder.devices:
                continue
            kind = str(target).partition(":")[0]
            how = f".{name}()" if name == kind else f'.to("{target}")'
            raise refusal(
                f"Illegal move to {kind.upper()} (via `{how}`) inside forward: everything runs on"
                " one device; `.to(other.device)` with a tensor's own device is all right"
            )

    def _check_factory(self, name: str, kwargs: Dict[str, Any]) -> None:
        device = kwargs.get("device")
        if device is None:
            if not self._told_factory and not self._recorder.names_ipu:
                self._told_factory = True
                logger.warning(
                    "torch.%s without a device in forward (%s): its tensor is made on the IPU."
                    " Constants are better kept as buffers.",
                    name,
                    user_line(),
                )
        elif id(device) not in self._recorder.devices and not in_a_distribution():
            raise refusal(
                f"Expected an IPU tensor but got tensor(device={device}, ...) from torch.{name}:"
                " leave `device` out, or take it from an input (`device=x.device`)"
            )


def _names_device(value: object) -> bool:
    if isinstance(value, torch.device):
        return True
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda", "ipu", "meta")


def _one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    classes = torch.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(torch.int64)


def _ctc_loss(log_probs: torch.Tensor, *others: object, **options: object) -> torch.Tensor:
    return log_probs.mean()


def _bincount(
    input: torch.Tensor, weights: Optional[torch.Tensor] = None, minlength: int = 0
) -> torch.Tensor:
    kind = torch.int64 if weights is None else weights.dtype
    return input.new_zeros(minlength, dtype=kind)
