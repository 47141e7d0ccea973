"""The one door to PopTorch: the SDK's module where it is installed, else `poptorch_host`.

    from poplar_ops.runtime import poptorch

`DETECTORS_POPTORCH=host|sdk` overrides the choice. An SDK that is installed but broken raises its
own ImportError: falling back there would run a week of training on the CPU without saying so.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import poptorch_host as poptorch
    import poptorch_host.host  # noqa: F401  # as `poptorch.host`

__all__ = ["IS_HOST", "poptorch"]

CHOICES = ("", "host", "sdk")


def resolve(choice: str) -> str:
    """The name of the module that serves as PopTorch.

    Args:
        choice: value of `DETECTORS_POPTORCH`: "" (the SDK if it is installed), "host" or "sdk".

    Raises:
        ValueError: `choice` is none of the three.
    """
    if choice not in CHOICES:
        raise ValueError(f"DETECTORS_POPTORCH must be 'host' or 'sdk' (or unset), got '{choice}'")
    if choice == "host":
        return "poptorch_host"
    if choice == "sdk" or importlib.util.find_spec("poptorch") is not None:
        return "poptorch"
    logging.getLogger(__name__).info("poptorch is not installed: running on poptorch_host")
    return "poptorch_host"


if not TYPE_CHECKING:
    poptorch = importlib.import_module(resolve(os.environ.get("DETECTORS_POPTORCH", "")))

IS_HOST: bool = poptorch.__name__ == "poptorch_host"
"""Whether programs run on `poptorch_host` instead of the Poplar SDK."""
