"""`CPU`: a layer that runs on the host in the middle of a captured model, for inference."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Sequence, Union

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from .. import _state
from ..errors import createPoptorchError
from . import leaf

Shape = Sequence[int]


class CPU:
    """A layer that runs on the host in the middle of a captured model.

    Inside an executor the layer gets its inputs as float32 tensors on the CPU, once for each
    micro-batch, and its results, float32 as well, have the shapes that it returned for zeros when
    the model was compiled. It is the very layer given here: weights of a module are those of the
    host. Outside an executor it is a call of the layer.

    Args:
        layer_to_call: a module, whose parameters stop requiring gradients, or a function.
        ID: name of the operator.
    """

    def __init__(self, layer_to_call: Union[nn.Module, Callable[..., Any]], ID: str) -> None:
        if isinstance(layer_to_call, nn.Module):
            layer_to_call.requires_grad_(False)
        self._layer = layer_to_call
        self._id = ID

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer.

        Returns:
            its tensor; if it returns a list or tuple of tensors, a list.

        Raises:
            poptorch.Error: the model is trained, an argument is no tensor, or the results have
                other shapes than at compile.
        """
        if not _state.is_running():
            results = self._layer(*args, **kwargs)
            return list(results) if isinstance(results, (list, tuple)) else results
        self._check(args, kwargs)
        shapes, single = self._results_of_zeros(args)
        outputs = leaf.call(
            "call_cpu_op",
            args,
            [leaf.Result(tuple(shape), torch.float32) for shape in shapes],
            lambda inputs: self._on_host(inputs, shapes),
        )
        return outputs[0] if single else outputs

    def _check(self, args: Sequence[Any], kwargs: Any) -> None:
        if _state.losses() is not None:
            raise createPoptorchError(f"poptorch.CPU ({self._id!r}) is only supported in inference")
        if kwargs or not args or not all(isinstance(value, Tensor) for value in args):
            raise createPoptorchError(
                f"poptorch.CPU ({self._id!r}) inside an executor takes tensors, by position: got"
                f" {[type(value).__name__ for value in args]} and keywords {sorted(kwargs)}"
            )

    def _results_of_zeros(self, args: Sequence[Tensor]) -> Any:
        """The shapes of the results, and whether it is one tensor; found at compile."""
        key = tuple(tuple(value.shape) for value in args)
        known = self.__dict__.setdefault("_shapes", {})
        if key not in known or _state.current_capture() is not None:
            with _plain_torch():
                results = self._layer(*[torch.zeros(shape) for shape in key])
            single = not isinstance(results, (list, tuple))
            tensors = [results] if single else list(results)
            if not all(isinstance(tensor, Tensor) for tensor in tensors):
                raise createPoptorchError(
                    f"poptorch.CPU ({self._id!r}) must return tensors, got"
                    f" {[type(tensor).__name__ for tensor in tensors]}"
                )
            known[key] = [tuple(tensor.shape) for tensor in tensors], single
        return known[key]

    def _on_host(self, args: Sequence[Tensor], shapes: Sequence[Shape]) -> List[Tensor]:
        device = args[0].device
        with _plain_torch():
            buffers = [value.detach().to("cpu", torch.float32, copy=True) for value in args]
            results = self._layer(*buffers)
            tensors = list(results) if isinstance(results, (list, tuple)) else [results]
            got = [tuple(tensor.shape) for tensor in tensors]
            if got != [tuple(shape) for shape in shapes]:
                raise createPoptorchError(
                    f"poptorch.CPU ({self._id!r}) returned shapes {got}, but {list(shapes)} when"
                    " the model was compiled: the shapes must not depend on values"
                )
            return [tensor.detach().to(device, torch.float32, copy=True) for tensor in tensors]


@contextlib.contextmanager
def _plain_torch() -> Iterator[None]:
    """Torch as outside the executor: no fake tensors, no watching, no gradients."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_disable_current_modes())
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield
