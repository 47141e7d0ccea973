"""What a host says about devices: there are none, and a model runs "on" one inside an executor."""

from __future__ import annotations

from . import _state


def ipuHardwareIsAvailable(num_ipus: int = 1) -> bool:
    """Whether that many IPUs can be used: never on a host."""
    return False


def ipuHardwareVersion() -> int:
    """Generation of the device.

    Raises:
        AssertionError: always on a host.
    """
    raise AssertionError("No IPU hardware available on this system")


def isRunningOnIpu() -> bool:
    """True while an executor runs or captures a model's `forward`, False in plain PyTorch calls."""
    return _state.is_running()
