"""A program as `__main__` of this process, as `python SCRIPT` and `python -m MODULE` run it.

Its module stays `__main__` for good, so that threads, exit handlers and pickles of the program find
their classes; multiprocessing reads from it what children must import.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import sys
import zipfile
from types import CodeType, ModuleType
from typing import List, Optional

NOT_FOUND = 1
"""Exit status for a module that does not exist, as Python's own."""


def run_script(arguments: List[str]) -> int:
    """Run a file, or a folder or zip file with a `__main__.py`.

    Args:
        arguments: the file and the program's own arguments: its `sys.argv`.

    Returns:
        the exit status, when the program does not exit by itself.
    """
    script = arguments[0]
    sys.argv = arguments
    if os.path.isdir(script) or zipfile.is_zipfile(script):
        _first_on_path(script)
        spec = importlib.machinery.PathFinder.find_spec("__main__", [script])
        if spec is None:
            sys.stderr.write(f"{sys.executable}: can't find '__main__' module in '{script}'\n")
            return NOT_FOUND
        return _run_spec(spec)
    _first_on_path(os.path.dirname(os.path.realpath(script)))
    loader = importlib.machinery.SourceFileLoader("__main__", script)
    code = loader.source_to_code(loader.get_data(script), script)
    _run(code, file=script, loader=loader, spec=None)
    return 0


def run_module(arguments: List[str]) -> int:
    """Run a module, or a package's `__main__`.

    Args:
        arguments: the module's dotted name and the program's own arguments.

    Returns:
        the exit status, when the program does not exit by itself.
    """
    name = arguments[0]
    sys.argv = ["-m", *arguments[1:]]  # as while Python looks for it
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _find(name)
    if spec is None or spec.loader is None:
        sys.stderr.write(f"{sys.executable}: No module named {name}\n")
        return NOT_FOUND
    sys.argv = [spec.origin or name, *arguments[1:]]
    return _run_spec(spec)


def _find(name: str) -> Optional[importlib.machinery.ModuleSpec]:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that a package on the way imports
        return None


def _run_spec(spec: importlib.machinery.ModuleSpec) -> int:
    loader = spec.loader
    assert loader is not None
    code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
    if code is None:
        sys.stderr.write(f"{sys.executable}: No code object available for {spec.name}\n")
        return NOT_FOUND
    _run(code, file=spec.origin, loader=loader, spec=spec)
    return 0


def _run(
    code: CodeType,
    *,
    file: Optional[str],
    loader: object,
    spec: Optional[importlib.machinery.ModuleSpec],
) -> None:
    module = ModuleType("__main__")
    module.__dict__.update(
        __file__=file,
        __cached__=None,
        __loader__=loader,
        __spec__=spec,
        __package__=spec.parent if spec is not None else None,
        __builtins__=builtins,
    )
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _first_on_path(folder: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder  # where `python -m poptorch_host` has the working directory
