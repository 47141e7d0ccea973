"""`MultiConv`: a hint that independent convolutions share the device. Changes no result."""

from __future__ import annotations

from types import TracebackType
from typing import Dict, List, Optional, Sequence, Type, Union

import torch

from .enums import MultiConvPlanType


class MultiConv:
    """`with poptorch.MultiConv().planType(...):` around convolutions without mutual dependence.

    The settings are checked and kept; a host computes the convolutions one by one.
    """

    def __init__(self) -> None:
        self.settings: Dict[str, object] = {}
        """What was set, by name of the method."""

    def availableMemoryProportions(self, value: Union[float, Sequence[float]]) -> MultiConv:
        """Part of the memory for all, or for each convolution."""
        valid = isinstance(value, float) or _all(value, float)
        return self._set("availableMemoryProportions", value, valid)

    def partialsTypes(self, value: Union[torch.dtype, Sequence[torch.dtype]]) -> MultiConv:
        """Type of partial sums, torch.float or torch.half, for all or for each."""
        kinds = (torch.float32, torch.float16)
        listed = isinstance(value, (list, tuple)) and all(one in kinds for one in value)
        return self._set("partialsTypes", value, listed or value in kinds)

    def enableConvDithering(self, value: Union[bool, Sequence[bool]]) -> MultiConv:
        """Start on different tiles, all or each.

        Raises:
            ValueError: no bool.
        """
        if not isinstance(value, bool) and not _all(value, bool):
            raise ValueError("value must be bool or list of bools")
        return self._set("enableConvDithering", value, True)

    def planType(self, value: MultiConvPlanType) -> MultiConv:
        """Together or one after the other."""
        assert isinstance(value, MultiConvPlanType), "Invalid plan type!"
        return self._set("planType", value, True)

    def perConvReservedTiles(self, value: int) -> MultiConv:
        """Tiles each convolution gets at least."""
        return self._set("perConvReservedTiles", value, isinstance(value, int))

    def cycleBackOff(self, value: float) -> MultiConv:
        """How much slower a plan may be to save memory."""
        return self._set("cycleBackOff", value, isinstance(value, float))

    def __enter__(self) -> MultiConv:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        return None

    def _set(self, name: str, value: object, valid: bool) -> MultiConv:
        assert valid, f"Invalid {name}!"
        self.settings[name] = value
        return self


def _all(values: object, kind: type) -> bool:
    listed: List[object] = list(values) if isinstance(values, (list, tuple)) else []
    return bool(listed) and all(isinstance(one, kind) for one in listed)
