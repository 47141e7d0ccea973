"""PopTorch's environment variables, and what a host does with each.

RDMAV_FORK_SAFE is set to 1 at import, as PopTorch does for children that are forked.
"""

from __future__ import annotations

import os
from typing import Dict

VARIABLES: Dict[str, str] = {
    "POPTORCH_CACHE_DIR": "honoured: the folder of executables, for options made from now on",
    "POPTORCH_DEFAULT_OPTIONS": "honoured: calls on options when they are made",
    "POPTORCH_LOG_DEST": "honoured: read at import",
    "POPTORCH_LOG_LEVEL": "honoured: read at import",
    "POPTORCH_EXPORT_PROTO_AS_BINARY": "ignored: no ONNX model is made",
    "POPTORCH_EXPORT_PROTO_FILE": "ignored: no ONNX model is made; see host.report",
    "POPTORCH_IPU_MODEL": "ignored: a host is neither an IPU nor its simulator",
    "POPTORCH_IPU_MODEL_VERSION": "ignored: a host is neither an IPU nor its simulator",
    "POPTORCH_MAX_GRAPH_LEN": "ignored: graphs are not printed",
    "POPTORCH_SMALL_IPU_MODEL": "ignored: a host is neither an IPU nor its simulator",
    "POPTORCH_WAIT_FOR_IPU": "ignored: a host's device is always free",
    "POPART_LOG_LEVEL": "ignored: PopART is not used",
    "POPLAR_ENGINE_OPTIONS": "ignored: Poplar is not used",
    "POPLAR_LOG_LEVEL": "ignored: Poplar is not used",
    "PVTI_OPTIONS": "ignored: libpvti is not used",
}
"""Variable -> what happens to it."""


def variables() -> Dict[str, str]:
    """Those that are set, and what a host does with them."""
    return {name: text for name, text in VARIABLES.items() if os.environ.get(name)}


def prepare() -> None:
    """At import: what PopTorch sets for the libraries below it."""
    os.environ.setdefault("RDMAV_FORK_SAFE", "1")
