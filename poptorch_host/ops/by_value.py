"""Bodies of loops and branches: what they write in place stays inside."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, Union

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import _state
from ..tensors import names
from ..tensors.operands import tensors_in, written_by

Body = Callable[..., Union[Tensor, Sequence[Tensor]]]


def call(body: Body, inputs: Sequence[Tensor]) -> List[Tensor]:
    """Call a body as the device does: tensors go in and come out by value.

    Outside an executor, where `forward` is plain PyTorch, only the inputs do.
    """
    with names.suspended():  # tensors of a body are no tensors of the graph around it
        copies = [value.clone() for value in inputs]
        if not _state.is_running() or _state.current_capture() is not None:
            return _listed(body(*copies))
        kept = _Kept(copies)
        try:
            with kept:
                outputs = _listed(body(*copies))
            return [value.clone() if isinstance(value, Tensor) else value for value in outputs]
        finally:
            kept.put_back()


def _listed(outputs: Union[Tensor, Sequence[Tensor]]) -> List[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


class _Kept(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as half.py
    """Keeps the values of outer tensors before an operator writes into them."""

    def __init__(self, own: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside: Set[int] = {_storage(tensor) for tensor in own}
        self._alive: List[Tensor] = list(own)  # so that no storage address is used twice
        self._before: List[Tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written_by(func, args, kwargs):
            if _storage(tensor) not in self._inside:
                exporter = _state.exporter()
                if exporter is not None:  # a graph would not put the value back
                    exporter.refuse("A loop or branch that writes into tensors from outside")
                self._before.append((tensor, tensor.clone()))
        outer = {_storage(tensor) for tensor in tensors_in([*args, *kwargs.values()])}
        outputs = func(*args, **kwargs)
        for tensor in tensors_in([outputs]):
            if _storage(tensor) not in outer:
                self._inside.add(_storage(tensor))
                self._alive.append(tensor)
        return outputs

    def put_back(self) -> None:
        """Give outer tensors the values that they had before."""
        with torch.no_grad():
            for tensor, value in reversed(self._before):
                tensor.copy_(value)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
