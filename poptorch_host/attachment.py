"""When an executor holds its device."""

from __future__ import annotations

from .checks import createPoptorchError
from .enums import ConnectionType
from .weights import Weights


class Attachment(Weights):
    """The part of `PoplarExecutor` that takes the device and gives it back."""

    def attachToDevice(self) -> None:
        """Take the device and upload the weights."""
        engine = self._running_engine()
        assert self._options.connection_type != ConnectionType.Never, (
            "Trying to attach to an offline device (ConnectionType.Never)"
        )
        if self._attached:
            raise createPoptorchError("Device is already attached")
        self._upload(engine)
        self._attached = True

    def detachFromDevice(self) -> None:
        """Give the device back; the executable stays."""
        self._running_engine()
        if not self._attached:
            raise createPoptorchError("Device is not attached")
        self._attached = False
