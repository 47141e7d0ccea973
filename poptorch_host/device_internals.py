"""Names PopTorch exports for its own use on a device; a host has nothing behind them."""

from __future__ import annotations

from typing import Any


def accessAttributes(attribute_id_str: str) -> Any:
    """The attributes of a captured operator.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.accessAttributes reads the device compiler's graph, which poptorch_host does not"
        " build; custom operators get their attributes as an argument"
    )


def getIpuTensorId(tensor: Any) -> int:
    """The device compiler's number of a tensor.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.getIpuTensorId numbers tensors of the device compiler, which poptorch_host does"
        " not have; use id(tensor)"
    )


def importPoptorchMetadataFromFile(path: str, *args: Any, **kwargs: Any) -> Any:
    """What PopTorch stored beside a PopART executable.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "poptorch.importPoptorchMetadataFromFile reads PopART executables, which poptorch_host does"
        " not make; poptorch.load reads the host's own files"
    )
