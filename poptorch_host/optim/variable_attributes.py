"""Which optimizer attributes are compiled in, and which may change between calls."""

from __future__ import annotations

from typing import Iterable, List


class VariableAttributes:
    """The names a program passed are variable, the others constant, until marked otherwise.

    Args:
        variable: names that are variable at first.
        allowed: every name there is.
    """

    def __init__(self, variable: Iterable[str], allowed: Iterable[str]) -> None:
        self._allowed: List[str] = list(allowed)
        self._variable: List[str] = []
        for name in variable:
            self.markAsVariable(name)

    @property
    def names(self) -> List[str]:
        """Every attribute of the optimizer that may be either."""
        return list(self._allowed)

    def isConstant(self, attr: str) -> bool:
        """Whether the attribute is compiled in."""
        self._check(attr)
        return attr not in self._variable

    def markAsConstant(self, attr: str) -> None:
        """Compile the attribute in."""
        self._check(attr)
        if attr in self._variable:
            self._variable.remove(attr)

    def markAsVariable(self, attr: str) -> None:
        """Let the attribute change between calls."""
        self._check(attr)
        if attr not in self._variable:
            self._variable.append(attr)

    def _check(self, attr: str) -> None:
        assert attr in self._allowed, (
            f"{attr} is not an attribute of this optimizer, which has {self._allowed}"
        )
