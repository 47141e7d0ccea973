"""Half precision on a CPU: tensors are stored as float16, each operator computes in float32 and
rounds.

`cast_to_input` is PopTorch's rule that linear layers, convolutions and normalisations take their
input's dtype; it holds on every device. `HalfRounding` is the CPU's stand-in for half
arithmetic, the same on every torch version (torch 2.0.1 has no half convolution there).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .operands import is_view, tensors_in, without_number, written_by

_TAKES_INPUT_DTYPE = frozenset(
    ["linear", "conv1d", "conv2d", "conv3d", "layer_norm", "group_norm"]
    + ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
)

# These move or make values and need no arithmetic; they know half on every torch version.
_MOVES = frozenset(
    ["_to_copy", "copy_", "clone", "to", "detach", "contiguous", "type_as", "lift_fresh"]
    + ["empty_like", "zeros_like", "ones_like", "full_like", "fill_", "zero_", "empty_strided"]
    + ["new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"]
    # Of the tensor itself: its widened copy would change instead.
    + ["squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "detach_"]
)


def cast_to_input(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]
) -> Tuple[List[Any], Dict[str, Any]]:
    """Arguments of a torch function, weights cast to the input's dtype where that rule holds.

    Args:
        function: what is called; known by its name.
        args: its arguments, the input first unless it is the keyword `input`.
        kwargs: its keyword arguments.
    """
    name = getattr(function, "__name__", "")
    values = list(args)
    if name not in _TAKES_INPUT_DTYPE:
        return values, kwargs
    source = values[0] if values else kwargs.get("input")
    if not isinstance(source, torch.Tensor) or source.dtype not in (torch.float16, torch.float32):
        return values, kwargs

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(source.dtype)
        return value

    return [cast(value) for value in values], {key: cast(kwargs[key]) for key in kwargs}


class InputDtype(TorchFunctionMode):
    """Applies `cast_to_input` to every call, and lets batch normalisation keep its statistics."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        return call_in_input_dtype(func, args, kwargs or {})


def call_in_input_dtype(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]
) -> Any:
    """Call a torch function by PopTorch's dtype rule."""
    if getattr(function, "__name__", "") in ("batch_norm", "instance_norm"):
        return _in_float32_statistics(function, args, kwargs)
    values, cast_kwargs = cast_to_input(function, args, kwargs)
    return function(*values, **cast_kwargs)


def _in_float32_statistics(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]
) -> torch.Tensor:
    """Normalisation computed in float32 whatever is stored, the result in the input's dtype.

    Takes the arguments of `F.batch_norm` and `F.instance_norm` (statistics second) and of torch's
    functions of these names (affine second): all tensors are handled alike, and statistics that
    were converted are written back.
    """
    tensors = [*args, *kwargs.values()]
    source = args[0] if args else kwargs["input"]
    dtypes = {t.dtype for t in tensors if isinstance(t, torch.Tensor)}
    if torch.float16 not in dtypes:
        return function(*args, **kwargs)  # type: ignore[no-any-return]

    converted: List[Tuple[torch.Tensor, torch.Tensor]] = []

    def widen(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float16:
            wide = value.float()
            converted.append((value, wide))
            return wide
        return value

    values = [widen(value) for value in args]
    wide_kwargs = {key: widen(value) for key, value in kwargs.items()}
    result = function(*values, **wide_kwargs)
    training = kwargs.get("training", kwargs.get("use_input_stats", False))
    training = args[5] if len(args) > 5 else training
    if training:
        with torch.no_grad():
            for stored, wide in converted:
                if stored is not source and not stored.requires_grad:  # not what is trained
                    stored.copy_(wide)  # frozen weights come back as they were: exact
    return result.to(source.dtype)  # type: ignore[no-any-return]


class HalfRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Computes operators on half tensors in float32 and rounds their results to half."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        kwargs = kwargs or {}
        func, args = without_number(func, args)
        tensors = tensors_in([*args, *kwargs.values()])
        if not any(tensor.dtype == torch.float16 for tensor in tensors):
            return func(*args, **kwargs)
        name = func._schema.name.rpartition("::")[2]
        if name in _MOVES or is_view(func):
            return func(*args, **kwargs)
        return in_float32(func, args, kwargs)


def in_float32(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    """Call an operator on half tensors in float32; what torch makes half of is rounded to it."""
    tensors = tensors_in([*args, *kwargs.values()])
    widened: Dict[int, torch.Tensor] = {
        id(tensor): tensor.float() for tensor in tensors if tensor.dtype == torch.float16
    }

    def widen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return widened.get(id(value), value)
        if isinstance(value, (list, tuple)):
            return type(value)(widen(item) for item in value)
        return torch.float32 if value is torch.float16 else value

    asked = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
    rounds = torch.float16 in asked if asked else _promotes_to_half(tensors)
    wide_kwargs = {key: widen(value) for key, value in kwargs.items()}
    outputs = func(*[widen(value) for value in args], **wide_kwargs)

    written = written_by(func, args, kwargs)
    for tensor in written:
        if id(tensor) in widened:
            tensor.copy_(widened[id(tensor)])
    if written:
        back = {
            id(widened[key]): tensor for tensor in written for key in [id(tensor)] if key in widened
        }
        return _map(outputs, lambda output: back.get(id(output), output))
    if not rounds:
        return outputs
    return _map(outputs, lambda output: output.half() if output.dtype == torch.float32 else output)


def _promotes_to_half(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether torch's type promotion gives half: dimensions outweigh scalars."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    ranked = [tensor for tensor in floating if tensor.dim() > 0] or floating
    return all(tensor.dtype == torch.float16 for tensor in ranked)


def _map(outputs: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(outputs, torch.Tensor):
        return function(outputs)
    if isinstance(outputs, (list, tuple)):
        return type(outputs)([_map(output, function) for output in outputs])
    return outputs
