"""Loads the PopART operators of this package for programs that run on the Poplar SDK.

PopTorch finds a custom operator by domain and name in PopART's registry, where the library enters
it when it is loaded: once a process, before the first model is compiled. The host runtime needs
none of this. Built with `make -C poplar_ops/csrc/ipu`, see docs/ipu.md.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import List

__all__ = ["load"]

VARIABLE = "POPLAR_OPS_IPU_LIBRARY"
NAME = "libpoplar_ops_ipu.so"
PACKAGE = Path(__file__).resolve().parent


@functools.lru_cache(maxsize=None)
def load() -> Path:
    """Load the library, unless this process has it already.

    Searched, in this order: `$POPLAR_OPS_IPU_LIBRARY`, this package's folder, `build/ipu` of the
    clone. A set variable that names no file is an error: no other library stands in.

    Returns:
        The path that was loaded.

    Raises:
        RuntimeError: the library is nowhere, or the loader refuses it (SDK not enabled).
    """
    path = _find(os.environ.get(VARIABLE, ""))
    try:
        ctypes.CDLL(str(path))  # its static constructors enter the operators
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be loaded: {error}. It needs PopART and Poplar of the SDK it was"
            " built with: source enable.sh of both, or build it again"
            " (make -C poplar_ops/csrc/ipu)"
        ) from error
    return path


def _find(override: str) -> Path:
    if override:
        if not Path(override).is_file():
            raise RuntimeError(f"{VARIABLE} must name {NAME}, there is no file '{override}'")
        return Path(override)
    for path in _candidates():
        if path.is_file():
            return path
    searched = ", ".join(str(path.parent) for path in _candidates())
    raise RuntimeError(
        f"{NAME} is not built: our operators cannot be compiled for the IPU (searched {searched})."
        " With the Poplar SDK enabled, run: make -C poplar_ops/csrc/ipu;"
        f" or set {VARIABLE} to a built library"
    )


def _candidates() -> List[Path]:
    return [PACKAGE / NAME, PACKAGE.parent / "build" / "ipu" / NAME]
