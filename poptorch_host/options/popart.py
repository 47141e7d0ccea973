"""Options that PopTorch hands to PopART unread: `options._Popart`."""

from __future__ import annotations

from typing import Any, Dict

from .options_dict import OptionsDict


class _PopartOptions(OptionsDict):
    """PopART session options: kept, frozen with the rest, checked when a model compiles."""

    options: Dict[str, Any]
    """Key -> value; the last writer of a key replaces what was there."""

    def __init__(self) -> None:
        super().__init__(options={}, patterns_level=2, patterns={})

    def set(self, *pair: Any, **values: Any) -> _PopartOptions:
        """`set("key", value)`: any key and value are stored, and checked at compile.

        A dictionary such as convolutionOptions is replaced as a whole.
        """
        if not pair:
            return super().set(**values)
        self._check_not_frozen()
        key, value = pair
        self._values["options"] = {**self._values["options"], key: value}
        return self

    def setEngineOptions(self, engine_options: Dict[str, str]) -> _PopartOptions:
        """Options of the Poplar engine, text to text."""
        return self.set("engineOptions", engine_options)

    def setPatterns(self, patterns: Dict[str, bool], level: int = 2) -> _PopartOptions:
        """Switch PopART's graph patterns on or off, above a level of defaults.

        Args:
            level: a number of `popart.PatternsLevel`, 0 to 3, checked at compile.
        """
        assert isinstance(level, int), f"The level of patterns must be an int, got {type(level)}"
        return super().set(patterns=dict(patterns), patterns_level=level)

    def toDict(self) -> Dict[str, Any]:
        """Session options, and the patterns."""
        values = super().toDict()
        session = values.pop("options")
        return {**values, **session}
