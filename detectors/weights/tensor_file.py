"""Files of named tensors: torch's `.pt`, `.pth`, `.ckpt`, and `.safetensors`; runs nothing in them.

torch files are read with `weights_only=True`, so tensors and plain types come back and anything
else is refused. Writing goes to a temporary name first: no half file is left under the final one.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple

import torch
from torch import Tensor


class TensorFile(NamedTuple):
    """What a file holds."""

    content: Dict[str, Any]
    """Names to tensors; in torch's files also plain values and nested dicts."""
    metadata: Dict[str, str]
    """The text beside the tensors of a safetensors file; empty for torch's."""


def read_tensor_file(path: Path) -> TensorFile:
    """The content of a file, on the CPU.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, not such a file, or with Python objects that are not data.
        RuntimeError: a safetensors file, and the package is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            # torch 2.0's own reader trips over its own deprecation
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:Unsupported (?:class|global:?)|GLOBAL) `*([\w.]+[\w])", str(error))
        if found:
            raise ValueError(
                f"{path} holds more than tensors and plain values ({found[1].strip()}), and opening"
                " it could run code; where it was made, save only the tensors:"
                " torch.save(model.state_dict(), file)"
            ) from None
        raise ValueError(_damaged(path, error)) from None
    except (RuntimeError, EOFError, ValueError, LookupError, struct.error) as error:
        raise ValueError(_damaged(path, error)) from None
    except (AttributeError, TypeError, AssertionError) as error:  # torch 2.0's reader on noise
        raise ValueError(_damaged(path, error)) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected named tensors")
    return TensorFile(content, {})


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Tensors and plain values as a torch file."""
    _write(path, lambda part: torch.save(dict(content), part))


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Dict[str, str]) -> None:
    """Tensors as a safetensors file, with text beside them."""
    save = _safetensors("write", path).save_file
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    _write(path, lambda part: save(plain, part, metadata=metadata))


def _read_safetensors(path: Path) -> TensorFile:
    package = _safetensors("read", path)
    try:
        with package.safe_open(str(path), framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
            return TensorFile(tensors, dict(file.metadata() or {}))
    except (OSError, ValueError) as error:
        raise ValueError(_damaged(path, error)) from None
    except Exception as error:  # SafetensorError derives from Exception alone
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(_damaged(path, error)) from None


def _safetensors(verb: str, path: Path) -> Any:
    """The package, imported here only."""
    try:
        import safetensors.torch
    except ImportError:
        raise RuntimeError(
            f"to {verb} {path} install safetensors: pip install safetensors"
        ) from None
    return safetensors.torch


def _write(path: Path, save: Callable[[str], object]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        save(str(part))
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()


def _damaged(path: Path, error: Exception) -> str:
    """torch's first sentence says what it met; the rest is for programmers."""
    first = "".join(str(error).strip().splitlines()[:1]).partition(". ")[0]
    with path.open("rb") as file:
        start = file.read(8)
    return (
        f"{path} ({path.stat().st_size} bytes, starts with {start!r}) is damaged or no file of"
        f" tensors: {type(error).__name__} {first[:120]}"
    )
