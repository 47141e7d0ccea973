"""When an executor holds its device."""

from __future__ import annotations

import os
import time
import weakref
from typing import Dict

from ..capture.stages import check_ipus
from ..enums import ConnectionType
from ..errors import createPoptorchError
from .weights import Weights

_WAIT = 0.05  # seconds between two looks at a device that is held
_holders: Dict[int, weakref.ReferenceType[Attachment]] = {}
"""Who attached last to a device with an id; devices without one are not counted."""


class Attachment(Weights):
    """The part of `PoplarExecutor` that takes the device and gives it back."""

    def attachToDevice(self) -> None:
        """Take the device and upload the weights.

        Raises:
            AssertionError: the connection type is Never.
            poptorch.Error: the model is not compiled, has its device, or another executor of this
                process holds the device of `Options.useIpuId`.
        """
        engine = self._running_engine()
        assert self._options.connection_type != ConnectionType.Never, (
            "Trying to attach to an offline device (ConnectionType.Never)"
        )
        if self._attached:
            raise createPoptorchError("Device is already attached")
        if self._options.exists("ipu_id"):
            self._acquire(int(self._options.ipu_id))
        self._upload(engine)
        self._attached = True

    def detachFromDevice(self) -> None:
        """Give the device back; the executable stays."""
        self._running_engine()
        if not self._attached:
            raise createPoptorchError("Device is not attached")
        self._attached = False

    def _acquire(self, number: int) -> None:
        assert self._executable is not None
        ipus = check_ipus(self._executable.program.placements, self._options)
        while _is_held(number):
            if not os.environ.get("POPTORCH_WAIT_FOR_IPU"):
                raise createPoptorchError(
                    f"Failed to acquire {ipus} IPU(s): another executor of this process is attached"
                    f" to useIpuId({number}). Call detachFromDevice() or destroy() on it first, or"
                    " set POPTORCH_WAIT_FOR_IPU=1 to wait for it"
                )
            time.sleep(_WAIT)
        _holders[number] = weakref.ref(self)


def _is_held(number: int) -> bool:
    holder = _holders[number]() if number in _holders else None
    return holder is not None and holder._attached
