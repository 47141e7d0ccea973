"""Names that PopTorch exports for its own use: what its compiler knows of tensors and files."""

from __future__ import annotations

import json
import pickle
from typing import Any, Dict

from torch import Tensor

from .. import _state, custom_ops
from ..errors import createPoptorchError
from . import executable


def accessAttributes(attribute_id_str: str) -> Dict[str, Any]:
    """The attributes of a custom operator that was captured.

    Args:
        attribute_id_str: `custom_ops.attribute_id` of them, or attributes as JSON.

    Raises:
        ValueError: neither of both.
    """
    if not isinstance(attribute_id_str, str):
        raise ValueError(
            f"accessAttributes expects the str of an id, got {type(attribute_id_str).__name__}"
        )
    if attribute_id_str.startswith("{"):
        found: Dict[str, Any] = json.loads(attribute_id_str)
        return found
    if attribute_id_str not in custom_ops.captured_attributes:
        raise ValueError(
            f"accessAttributes: {attribute_id_str!r} is the id of no attributes; those of captured"
            f" custom operators are {sorted(custom_ops.captured_attributes)}"
        )
    return dict(custom_ops.captured_attributes[attribute_id_str])


def getIpuTensorId(tensor: Tensor) -> int:
    """The number of a tensor in the graph that is being captured, counted from 1.

    Raises:
        poptorch.Error: no tensor, or no model is being captured.
    """
    capture = _state.current_capture()
    if capture is None or not isinstance(tensor, Tensor):
        raise createPoptorchError(
            "getIpuTensorId numbers tensors of a model while it is being compiled, got"
            f" {type(tensor).__name__} {'outside of that' if capture is None else 'there'}"
        )
    return capture.number(tensor)


def importPoptorchMetadataFromFile(path: executable.PathLike) -> bytes:
    """What `save` or `compileAndExport` stored beside the executable.

    Returns:
        a pickled dictionary with `version`, `options`, `model`, `optimizer` and `rng_state`; open
        files only that you trust.

    Raises:
        poptorch.Error: no such file.
    """
    try:
        record = executable.read(path)
    except AssertionError as error:
        raise createPoptorchError(str(error)) from error
    names = ("version", "options", "model", "optimizer", "rng_state")
    return pickle.dumps({name: record[name] for name in names}, protocol=4)
