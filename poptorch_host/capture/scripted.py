"""TorchScript functions that a captured `forward` calls run as the Python they were made from.

torch 2.0 crashes when a TorchScript function that it has already optimised meets fake tensors; and
operators of a script have no line of the user's.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import torch


@contextlib.contextmanager
def scripts_as_python() -> Iterator[None]:
    """While entered, `torch.jit.script` functions run their Python, traced ones unoptimised."""
    kind: Any = torch._C.ScriptFunction
    call = kind.__call__

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self, "_torchdynamo_inline", None)  # of torch.jit.script only
        if function is not None:
            return function(*args, **kwargs)
        self._debug_flush_compilation_cache()
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # not in __all__
            return call(self, *args, **kwargs)

    kind.__call__ = run
    try:
        yield
    finally:
        kind.__call__ = call
