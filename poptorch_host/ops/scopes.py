"""Names and attributes of operators: they change no result."""

from __future__ import annotations

from types import TracebackType
from typing import Dict, Optional, Type

from ..tensors import names


class NameScope:
    """`with poptorch.NameScope("head"):` prefixes the names of tensors computed inside."""

    def __init__(self, name: str) -> None:
        assert isinstance(name, str), f"Parameter to NameScope must be a string, got {type(name)}"
        self.name = name

    def __enter__(self) -> None:
        namer = names.current()
        if namer is not None:
            namer.enter(self.name)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        namer = names.current()
        if namer is not None:
            namer.leave()


class Attribute:
    """`with poptorch.Attribute(__outline={"layer": "embedding"}):` attaches these to operators.

    Args:
        attributes: name -> dictionary of str to str. Read by the device's compiler only.
    """

    def __init__(self, **attributes: Dict[str, str]) -> None:
        self.attributes = attributes

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        return None
