"""Executables in files: what a capture found, for which inputs and options, and the model.

A file is one pickled record; without the model it holds no code of the user's and no weights.
Files are written beside their place and then renamed, so a reader never meets half of one. Open
only files you trust.
"""

from __future__ import annotations

import copy
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple, Union

import torch
from torch import nn

from ..capture.program import Program
from ..engine.replica_grouping import Groupings
from ..errors import createPoptorchError
from ..options import Options
from ..tensors.arguments import Arguments
from ..version import __version__
from .whole_file import write_whole

PathLike = Union[str, os.PathLike]  # type: ignore[type-arg]  # not subscriptable on Python 3.8

FORMAT = "poptorch_host executable"
VERSION = 4
"""Raised whenever a record of before could no longer be read."""
DIRECTORY_FILE = "model.poptorch"
"""Name of the file in a directory that was given instead of a file."""

_FREE_OPTIONS = ("log_dir", "max_repeat_logs", "model_name", "random_seed") + (
    "connection_type",
    "ipu_id",
    "ipu_version",
    "use_model",
    "log_cycle_count",
    "enableEngineCaching",
    "cachePath",
)
"""Options that change no graph: an executable made offline runs attached."""


@dataclass
class Executable:
    """A captured model and the inputs it was captured for."""

    program: Program
    arguments: Arguments
    """Of a whole call, with meta tensors."""
    sizes: List[Optional[int]]
    """Micro-batch size of each input tensor, None for a scalar."""
    groupings: Groupings = field(default_factory=dict)
    """Of weights that differ between replicas."""
    channels_last: Optional[bool] = None
    """Whether `forward` takes channels-last tensors; None if nobody asked."""

    def save(
        self,
        path: PathLike,
        options: Options,
        model: nn.Module,
        rng_state: Optional[List[int]],
        *,
        export_model: bool,
        optimizer: Optional[torch.optim.Optimizer] = None,
    ) -> None:
        """Write a record.

        Args:
            export_model: store the model with its weights, not only its names and shapes.
            optimizer: of a training model; stored with the model only.
        """
        record = {
            "format": FORMAT,
            "version": VERSION,
            "poptorch": __version__,
            "executable": self,
            "options": copy.deepcopy(options),
            "options_key": options_key(options),
            "model": model if export_model else None,
            "optimizer": optimizer if export_model else None,
            "model_key": _model_key(model),
            "rng_state": rng_state,
        }
        write_whole(_file_of(path), lambda stream: torch.save(record, stream))

    @staticmethod
    def load_for(
        path: PathLike, model: nn.Module, options: Options
    ) -> Tuple[Executable, Optional[List[int]]]:
        """Read the executable of a model and options that exist already.

        Raises:
            poptorch.Error: no such record, or one of another model or other options.
        """
        name = _file_of(path)
        try:
            record = _read(name)
        except AssertionError as error:
            raise createPoptorchError(str(error)) from error
        _check_same(name, "another model", record["model_key"], _model_key(model))
        _check_same(name, "other options", record["options_key"], options_key(options))
        return record["executable"], record["rng_state"]

    @staticmethod
    def load_with_model(
        path: PathLike, edit_options: Optional[Callable[[Options], object]]
    ) -> Stored:
        """Read a record that holds its model.

        Args:
            edit_options: may change options that change no graph.

        Raises:
            AssertionError: no such record, or one without a model.
            poptorch.Error: the edited options need another executable.
        """
        name = _file_of(path)
        record = _read(name)
        assert record["model"] is not None, (
            f"Invalid file {name}: it holds no model because it was saved with export_model=False;"
            " make the model yourself and use loadExecutable"
        )
        options = record["options"]
        if edit_options is not None:
            edit_options(options)
            _check_same(name, "other options", record["options_key"], options_key(options))
        return Stored(
            record["executable"],
            record["model"],
            options,
            record["rng_state"],
            record["optimizer"],
        )


def read(path: PathLike) -> Dict[str, Any]:
    """A file's record, with its model if it has one.

    Raises:
        AssertionError: no such record.
    """
    return _read(_file_of(path))


class Stored(NamedTuple):
    """What a file with a model holds."""

    executable: Executable
    model: nn.Module
    options: Options
    rng_state: Optional[List[int]]
    optimizer: Optional[torch.optim.Optimizer]
    """None in inference."""


def _file_of(path: PathLike) -> Path:
    path = Path(path)
    return path / DIRECTORY_FILE if path.is_dir() else path


def _read(path: Path) -> Dict[str, Any]:
    try:
        record = torch.load(str(path), map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        _invalid(path, f"it cannot be read ({error})")
    except (AttributeError, ImportError, KeyError, TypeError) as error:
        _invalid(path, f"it names something this version does not have ({error})")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        _invalid(path, "it is no executable of poptorch_host")
    if record["version"] != VERSION:
        _invalid(path, f"it has format {record['version']}, this is format {VERSION}")
    if record["poptorch"] != __version__:
        _invalid(path, f"it was written by {record['poptorch']}, this is {__version__}")
    return record


def _invalid(path: Path, reason: str) -> NoReturn:
    raise AssertionError(f"Invalid file {path}: PopTorch version mismatch: {reason}")


def _model_key(model: nn.Module) -> Dict[str, str]:
    """What must be equal of a model: names, shapes and dtypes."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: f"{tuple(t.shape)} {t.dtype}" for name, t in tensors.items()}


def options_key(options: Options) -> Dict[str, str]:
    """What must be equal of the options: all that changes a graph."""
    values = options.toDict()
    for free in _FREE_OPTIONS:
        values.pop(free, None)
    return {name: repr(value) for name, value in values.items()}


def _check_same(path: Path, what: str, stored: Dict[str, str], mine: Dict[str, str]) -> None:
    difference = _difference(stored, mine)
    if difference:
        raise createPoptorchError(
            f"Invalid file {path}: it was compiled for {what}: {difference}."
            " Compile again with compileAndExport"
        )


def _difference(stored: Dict[str, str], mine: Dict[str, str]) -> str:
    names = [name for name in {**stored, **mine} if stored.get(name) != mine.get(name)]
    shown = [f"{n} is {stored.get(n)} in the file, {mine.get(n)} here" for n in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "; ".join(shown) + more
