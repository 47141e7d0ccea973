"""The typed dictionary behind `Options` and each of its sections."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Type, TypeVar

Self = TypeVar("Self", bound="OptionsDict")


class _SealedAfterInit(type):
    """Lets a class and its subclasses make private attributes in constructors only."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        object.__setattr__(made, "_sealed", True)
        return made


class OptionsDict(metaclass=_SealedAfterInit):
    """Values that can be read as attributes and replaced by values of the same type only.

    Args:
        defaults: the keys that exist, and by their values the types they keep.
    """

    _values: Dict[str, Any]
    _defaults: Dict[str, Any]
    _sealed: bool
    _frozen: bool

    def __init__(self, **defaults: Any) -> None:
        object.__setattr__(self, "_sealed", False)
        object.__setattr__(self, "_frozen", False)
        object.__setattr__(self, "_values", dict(defaults))
        object.__setattr__(self, "_defaults", dict(defaults))

    def set(self: Self, **values: Any) -> Self:
        """Replace values.

        Raises:
            AttributeError: the options are frozen.
            AssertionError: unknown key, or a value of another type.
        """
        self._check_not_frozen()
        for key, value in values.items():
            assert key in self._values, (
                f"Invalid option {key}, valid options are {sorted(self._values)}"
            )
            expected = type(self._values[key])
            assert isinstance(value, expected), (
                f"Unexpected type {type(value)} for option {key}. Expected {expected}"
            )
            # A bool passes as an int, and must not turn the option into a bool.
            self._values[key] = int(value) if expected is int else value
        return self

    def createOrSet(self: Self, **values: Any) -> Self:
        """Like `set`, and makes keys that do not exist yet."""
        self._check_not_frozen()
        for key, value in values.items():
            if key in self._values:
                self.set(**{key: value})
            else:
                self._values[key] = value
        return self

    def exists(self, key: str) -> bool:
        """Whether a value of that name is there."""
        return key in self._values

    def deleteIfExists(self, key: str) -> None:
        """Forget a value."""
        self._check_not_frozen()
        self._values.pop(key, None)

    def changed(self) -> List[str]:
        """Keys whose values are no longer those of the constructor, in their order."""
        return [
            key
            for key, value in self._values.items()
            if key not in self._defaults or self._defaults[key] != value
        ]

    def toDict(self) -> Dict[str, Any]:
        """A flat copy of the values."""
        return dict(self._values)

    def __call__(self, key: str) -> Any:
        """The value of that name, as attribute access reads it."""
        return getattr(self, key)

    def __getattr__(self, key: str) -> Any:
        if not key.startswith("_") and key in self._values:
            return self._values[key]
        raise AttributeError(
            f"Invalid attribute {key}. {type(self).__name__} has no such attribute or option."
        )

    def __setattr__(self, key: str, value: Any) -> None:
        self._check_not_frozen()
        if not key.startswith("_"):
            self.set(**{key: value})
        elif self._sealed and key not in self.__dict__:
            raise AttributeError(f"Invalid private attribute {key} of {type(self).__name__}.")
        else:
            object.__setattr__(self, key, value)

    def __copy__(self: Self) -> Self:
        """As a deep copy: two options never share a dictionary."""
        return copy.deepcopy(self)

    def __deepcopy__(self: Self, memo: Dict[int, Any]) -> Self:
        """A copy that is not frozen."""
        kind: Type[Self] = type(self)
        made = kind.__new__(kind)
        memo[id(self)] = made
        for key, value in self.__dict__.items():
            object.__setattr__(made, key, copy.deepcopy(value, memo))
        object.__setattr__(made, "_frozen", False)
        return made

    def __repr__(self) -> str:
        values = "".join(f"\n  {key}={value!r}," for key, value in sorted(self._values.items()))
        return f"{type(self).__name__}({values}\n)"

    def _freeze(self) -> None:
        object.__setattr__(self, "_frozen", True)

    def _replace(self, key: str, value: Any) -> None:
        """Set a known key whose type may change, as where None has a meaning."""
        self._check_not_frozen()
        self._values[key] = value

    def _check_not_frozen(self) -> None:
        if self._frozen:
            raise AttributeError(
                "Can't modify frozen Options: a DataLoader or an executor already uses them."
                " Change a copy made with clone()."
            )
