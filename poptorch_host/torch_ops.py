"""`torch.ops.poptorch`: what public programs call there by name, beside the functions for it.

Defined where `import poptorch` means this package; elsewhere the names belong to the SDK's library.
"""

from __future__ import annotations

from typing import Any, List

import torch
import torch.library

from .ops.scopes import NameScope

_libraries: List[torch.library.Library] = []  # an operator lives as long as its library


def define() -> None:
    """Define `push_name_scope(str)` and `pop_name_scope()`: a `NameScope` begins, and ends.

    Twice is once.
    """
    if _libraries:
        return
    library: Any = torch.library.Library("poptorch", "DEF")  # type: ignore[no-untyped-call]
    library.define("push_name_scope(str name) -> ()")
    library.define("pop_name_scope() -> ()")
    library.impl("push_name_scope", _push, "CompositeImplicitAutograd")
    library.impl("pop_name_scope", _pop, "CompositeImplicitAutograd")
    _libraries.append(library)


def _push(name: str) -> None:
    NameScope(name).__enter__()


def _pop() -> None:
    NameScope("").__exit__(None, None, None)
