"""Pickles of NumPy arrays, as Caffe2 and detectron2 publish weights; runs nothing in them.

A pickle is a program that imports and calls. This reader lets it make arrays, numbers, texts,
lists and dicts, and refuses everything else by name.
"""

from __future__ import annotations

import codecs
import importlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Tuple

import torch
from torch import Tensor

__all__ = ["read_numpy_pickle"]

CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
FROM_CORE = ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
FROM_NUMPY = ("ndarray", "dtype")
OTHERS: Dict[Tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}


class ArrayUnpickler(pickle.Unpickler):
    """Resolves the names above only."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of a name.

        Raises:
            pickle.UnpicklingError: any other name.
        """
        if (module, name) in OTHERS:
            return OTHERS[(module, name)]
        if module == "numpy" and name in FROM_NUMPY:
            return getattr(importlib.import_module("numpy"), name)
        for core in CORES:
            if module.startswith(f"{core}.") and f"{module[len(core) + 1 :]}.{name}" in FROM_CORE:
                return getattr(numpy_core(module[len(core) + 1 :]), name)
        raise pickle.UnpicklingError(f"the name {module}.{name}")


def numpy_core(name: str) -> Any:
    """A module of NumPy's core, wherever this version has it."""
    numpy = importlib.import_module("numpy")
    core = CORES[int(numpy.__version__.split(".")[0]) >= 2]
    return importlib.import_module(f"{core}.{name}")


def read_numpy_pickle(path: Path) -> Dict[str, Tensor]:
    """The arrays of a pickled dict, or of the dict under its key "model" or "blobs".

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, with anything but arrays and plain values, or no named arrays.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        content = ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than arrays and plain values ({error}): opening it"
            " with pickle could run code"
        ) from None
    # What noise makes the machine of a pickle do: pop what is not there, call with wrong values.
    except (EOFError, LookupError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged or no pickle: {error}") from None
    for key in ("model", "blobs"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected named arrays")
    ndarray = importlib.import_module("numpy").ndarray
    return {
        str(name): torch.from_numpy(value.copy())
        for name, value in content.items()
        if isinstance(value, ndarray) and value.dtype.kind in "fiu"
    }
