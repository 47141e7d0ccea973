"""`MultiConv`: a hint that independent convolutions share the device. Changes no result."""

from __future__ import annotations

from types import TracebackType
from typing import Dict, List, Optional, Sequence, Type, Union

import torch

from .. import _state
from ..enums import MultiConvPlanType
from ..errors import createPoptorchError

_CONVOLUTIONS = ("aten::convolution", "aten::mkldnn_convolution", "aten::_convolution")


class MultiConv:
    """`with poptorch.MultiConv().planType(...):` around convolutions without mutual dependence.

    The settings are checked and kept, None takes one back; a host computes the convolutions one
    by one. Lists need one entry for each convolution inside, which is checked at compile.
    """

    def __init__(self) -> None:
        self.settings: Dict[str, object] = {}
        """What was set, by name of the method."""
        self._before: Optional[int] = None

    def availableMemoryProportions(self, value: Union[float, Sequence[float], None]) -> MultiConv:
        """Part of the memory for all, or for each convolution.

        Raises:
            AssertionError: no float.
        """
        valid = value is None or isinstance(value, float) or _all(value, float)
        assert valid, f"Invalid available memory proportion! Got {value!r}"
        return self._set("availableMemoryProportions", value)

    def partialsTypes(self, value: Union[torch.dtype, Sequence[torch.dtype]]) -> MultiConv:
        """Type of partial sums, torch.float or torch.half, for all or for each.

        Raises:
            ValueError: another type.
        """
        kinds = value if isinstance(value, (list, tuple)) else [value]
        if not kinds or not all(kind in (torch.float32, torch.float16) for kind in kinds):
            raise ValueError(
                f"Invalid partials types! torch.float or torch.half are expected, got {value!r}"
            )
        return self._set("partialsTypes", value)

    def enableConvDithering(self, value: Union[bool, Sequence[bool], None]) -> MultiConv:
        """Start on different tiles, all or each.

        Raises:
            ValueError: no bool.
        """
        if not (value is None or isinstance(value, bool) or _all(value, bool)):
            raise ValueError(f"value must be bool or list of bools, got {value!r}")
        return self._set("enableConvDithering", value)

    def planType(self, value: Optional[MultiConvPlanType]) -> MultiConv:
        """Together or one after the other.

        Raises:
            AssertionError: no plan type.
        """
        valid = value is None or isinstance(value, MultiConvPlanType)
        assert valid, f"Invalid plan type! Got {value!r}"
        return self._set("planType", value)

    def perConvReservedTiles(self, value: int) -> MultiConv:
        """Tiles each convolution gets at least.

        Raises:
            AssertionError: no int.
        """
        assert isinstance(value, int), f"Invalid perConvReservedTiles! Got {value!r}"
        return self._set("perConvReservedTiles", value)

    def cycleBackOff(self, value: float) -> MultiConv:
        """How much slower a plan may be to save memory.

        Raises:
            AssertionError: no float.
        """
        assert isinstance(value, float), f"Invalid cycleBackOff! Got {value!r}"
        return self._set("cycleBackOff", value)

    def __enter__(self) -> MultiConv:
        capture = _state.current_capture()
        if capture is not None:
            if capture.multi_conv:
                raise createPoptorchError(
                    "poptorch.MultiConv inside poptorch.MultiConv: close the outer one first"
                )
            capture.multi_conv = True
            self._before = _convolutions(capture)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        before, self._before = self._before, None
        capture = _state.current_capture()
        if capture is None or before is None:
            return
        capture.multi_conv = False
        if kind is None:
            self._check(_convolutions(capture) - before)

    def _check(self, count: int) -> None:
        if count == 0:
            raise createPoptorchError("poptorch.MultiConv has no convolution inside")
        for name, value in self.settings.items():
            if isinstance(value, (list, tuple)) and len(value) != count:
                raise createPoptorchError(
                    f"poptorch.MultiConv: {name} needs one entry for each of the {count}"
                    f" convolutions inside, got {len(value)}: {list(value)}"
                )

    def _set(self, name: str, value: object) -> MultiConv:
        if value is None:
            self.settings.pop(name, None)
        else:
            self.settings[name] = value
        return self


def _convolutions(capture: _state.CaptureHooks) -> int:
    return sum(capture.uses(name) for name in _CONVOLUTIONS)


def _all(values: object, kind: type) -> bool:
    listed: List[object] = list(values) if isinstance(values, (list, tuple)) else []
    return bool(listed) and all(isinstance(one, kind) for one in listed)
