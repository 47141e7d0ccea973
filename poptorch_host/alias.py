"""Let `import poptorch` mean this package, on request: in this process and in those it starts.

`popdist` and `popart` likewise, and `horovod` where it is not installed. Nothing here runs on
import of the package: `python -m poptorch_host` asks for it.

A process that this one starts finds the names through the folder `shims`, which stands on its
`sys.path`: multiprocessing hands the parent's path to spawned and forkserver children, and
PYTHONPATH carries the folder to everything else that is Python.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Dict, List, Optional, Sequence

_PACKAGE = __package__ or "poptorch_host"
NAMES: Dict[str, str] = {
    "poptorch": _PACKAGE,
    "popdist": f"{_PACKAGE}.popdist",
    "popart": f"{_PACKAGE}.popart",
    "horovod": f"{_PACKAGE}.horovod",
}
"""What a PopTorch program imports, and what of this package it gets."""
_ONLY_IF_ABSENT = ("horovod",)  # no part of PopTorch: an installed one has more
_SHIMS = str(Path(__file__).resolve().parent / "shims")
_ROOT = str(Path(__file__).resolve().parents[1])


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `poptorch` and `poptorch.x` as this package and its modules: the same objects."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        name, _, rest = fullname.partition(".")
        if name not in NAMES:
            return None
        installed = _installed(name)
        if installed is not None:
            return None if rest else installed
        if rest and importlib.util.find_spec(_real_name(fullname)) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=not rest)


class _Loader(importlib.abc.Loader):
    """Loads one alias."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = _real_module(spec.name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just written the alias's into it


def install() -> None:
    """Let the names resolve here from now on.

    Raises:
        RuntimeError: another `poptorch` is already imported.
    """
    for name, real in NAMES.items():
        present = sys.modules.get(name)
        if present is not None and present.__name__ != real and name not in _ONLY_IF_ABSENT:
            raise RuntimeError(
                f"{name} is already imported from {getattr(present, '__file__', '?')}:"
                " start the program with `python -m poptorch_host`"
            )
    _find_here()


def share_with_children() -> None:
    """Let the names resolve in processes that this one starts, too."""
    if _SHIMS not in sys.path:
        sys.path.insert(1, _SHIMS)  # behind the program's own folder
    folders = [_SHIMS]
    if importlib.machinery.PathFinder.find_spec(_PACKAGE, sys.path[1:]) is None:
        sys.path.append(_ROOT)  # it was found in the working directory, which no child looks into
        folders.append(_ROOT)
    before = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ["PYTHONPATH"] = os.pathsep.join(_without_repeats([folders[0], *before, *folders]))


def take_over(name: str) -> None:
    """Put the real module in the place of a shim that is being imported."""
    _find_here()
    if _installed(name) is None:
        sys.modules[name] = _real_module(name)
    else:
        del sys.modules[name]
        importlib.import_module(name)


def _real_module(name: str) -> ModuleType:
    module = importlib.import_module(_real_name(name))
    if name == "poptorch":
        importlib.import_module(f"{_PACKAGE}.torch_ops").define()
    return module


def _installed(name: str) -> Optional[importlib.machinery.ModuleSpec]:
    """Where a library is that goes before this package's part of it."""
    if name not in _ONLY_IF_ABSENT:
        return None
    folders = [folder for folder in sys.path if folder != _SHIMS]
    for finder in sys.meta_path:
        if not isinstance(finder, _Finder) and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, folders)
            if spec is not None:
                return spec
    return None


def _find_here() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _real_name(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{NAMES[first]}.{rest}" if rest else NAMES[first]


def _without_repeats(folders: List[str]) -> List[str]:
    return list(dict.fromkeys(folders))
