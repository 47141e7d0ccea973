"""Let `import poptorch` mean this package, in this process, on request.

Nothing here runs on import of the package: `python -m poptorch_host` asks for it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Optional, Sequence

_PACKAGE = __package__ or "poptorch_host"


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `poptorch` and `poptorch.x` as this package and its modules: the same objects."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        name, _, rest = fullname.partition(".")
        if name != "poptorch":
            return None
        if rest and importlib.util.find_spec(f"{_PACKAGE}.{rest}") is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=not rest)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(_PACKAGE + spec.name[len("poptorch") :])
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just written the alias's into it


def install() -> None:
    """Let `poptorch` resolve here from now on.

    Raises:
        RuntimeError: another `poptorch` is already imported.
    """
    present = sys.modules.get("poptorch")
    if present is not None and present.__name__ != _PACKAGE:
        raise RuntimeError(
            f"poptorch is already imported from {getattr(present, '__file__', '?')}:"
            " start the program with `python -m poptorch_host`"
        )
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())
