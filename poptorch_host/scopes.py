"""Names and attributes of operators: read by the device's compiler only."""

from __future__ import annotations

from types import TracebackType
from typing import Dict, Optional, Type


class _Scope:
    """A context manager that changes no result."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        return None


class NameScope(_Scope):
    """`with poptorch.NameScope("head"):` prefixes the names of operators made inside."""

    def __init__(self, name: str) -> None:
        assert isinstance(name, str), f"NameScope expects a str, got {type(name)}"
        self.name = name


class Attribute(_Scope):
    """`with poptorch.Attribute(__outline={"layer": "embedding"}):` attaches these to operators.

    Args:
        attributes: name -> dictionary of str to str.
    """

    def __init__(self, **attributes: Dict[str, str]) -> None:
        self.attributes = attributes
