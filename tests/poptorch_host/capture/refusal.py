"""A refusal names the user's file and line."""

from __future__ import annotations

from typing import Callable

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch

Function = Callable[[Tensor], object]
Wrap = Callable[..., poptorch.PoplarExecutor]

CONSTANT = torch.arange(4.0)


def line_of(function: Function) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def refused(wrap: Wrap, function: Function, text: str) -> None:
    """Compiling `function` for a (2, 4, 6, 6) input fails with `text` and the function's line."""
    executor = wrap(function)
    with pytest.raises(poptorch.Error, match=text) as caught:
        executor.compile(torch.rand(2, 4, 6, 6))
    assert line_of(function) in str(caught.value), caught.value
    assert not executor.isCompiled()
