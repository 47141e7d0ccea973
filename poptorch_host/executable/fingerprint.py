"""A hash of a model by what it means: equal in another process, different where a capture may be.

Hashed are values, the code of functions with what they refer to, and the files of the user's
modules; torch, the standard library and this package count by their versions or sources, other
packages by version and file. What can be hashed in no such way is an `Unstable`.
"""

from __future__ import annotations

import builtins
import collections
import dis
import enum
import functools
import hashlib
import logging
import os
import re
import sys
import sysconfig
import types
import weakref
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_LIMIT = 500_000  # objects: beyond that a model holds a data set
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_SITES = ("site-packages", "dist-packages")
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep
_ATOMS: Tuple[type, ...] = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_ATOMS += (range, slice, torch.dtype, torch.device, torch.layout, torch.memory_format)
_ENVIRONMENT = ("environ", "environb", "getenv")
_OUTSIDE = ("argv", "open", "input")
"""Names in user code that read what no key holds."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{2,60}")
_NO_PART = frozenset(
    ["__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__"]
    + ["_abc_impl", "__abstractmethods__", "__parameters__", "__orig_bases__", "__slots__"]
    + ["__dataclass_fields__", "__dataclass_params__", "__match_args__", "__annotate__"]
    + ["__annotations_cache__", "__annotate_func__", "__firstlineno__", "__static_attributes__"]
)
"""Of a class: bookkeeping, or in its source."""


class Unstable(Exception):
    """Something that cannot be recognised in another process; the text says what."""


class Fingerprint:
    """Collects a hash."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: Dict[int, int] = {}
        self._classes: Set[type] = set()
        self._alive: List[Any] = []  # ids in the table above stay theirs
        self._files: Set[str] = set()
        self._variables: Set[str] = set()
        """Texts that may name an environment variable."""

    def add(self, name: str, value: Any) -> None:
        """Hash a value under a name.

        Raises:
            Unstable: it holds something that has no lasting identity.
        """
        self._text(name)
        self._value(value, name)

    def digest(self) -> str:
        """The hash of all that was added, and of the sources involved; 40 hexadecimal digits."""
        for line in self._sources():
            self._text(line)
        return self._hash.hexdigest()[:40]

    # ---- values ----------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._hash.update(b"%d:" % len(data) + data)

    def _value(self, value: Any, where: str) -> None:
        if isinstance(value, _ATOMS) and type(value).__module__ in ("builtins", "torch"):
            self._text(f"{type(value).__name__} {value!r}")
            if isinstance(value, str) and _VARIABLE.fullmatch(value):
                self._variables.add(value)
            return
        if type(value) not in (tuple, frozenset):  # of those a compiler decides which are one
            if id(value) in self._seen:
                self._text(f"again {self._seen[id(value)]}")
                return
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
            if len(self._alive) > _LIMIT:
                raise Unstable(f"{where}: more than {_LIMIT} objects")
        self._text(type(value).__qualname__)
        self._object(value, where)

    def _object(self, value: Any, where: str) -> None:
        if isinstance(value, nn.Module):
            self._module(value, where)
        elif isinstance(value, torch.Tensor):
            self._tensor(value, where)
        elif isinstance(value, enum.Enum):
            self._text(f"{type(value).__module__} {value.name}")
        elif isinstance(value, type):
            self._class(value, where)
        elif isinstance(value, types.ModuleType):
            self._text(value.__name__)
        elif isinstance(value, (dict, types.MappingProxyType)):
            self._mapping(value, where)
        elif isinstance(value, (set, frozenset)):
            self._set(value, where)
        elif isinstance(value, (list, tuple, collections.deque)):
            self._text(str(len(value)))
            for index, item in enumerate(value):
                self._value(item, f"{where}[{index}]")
        else:
            self._other(value, where)

    def _other(self, value: Any, where: str) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value, where)
        elif isinstance(value, types.CodeType):
            self._code(value, where)
        elif isinstance(value, (staticmethod, classmethod, types.MethodType)):
            self._value(value.__func__, where)
            if isinstance(value, types.MethodType):
                self._value(value.__self__, where)
        elif isinstance(value, property):
            self._value((value.fget, value.fset), where)
        elif isinstance(value, functools.partial):
            self._value((value.func, value.args, value.keywords), where)
        elif isinstance(value, torch.jit.ScriptFunction):
            self._text(str(value.code))
        elif isinstance(value, weakref.ref):
            self._value(value(), where)
        elif isinstance(value, (logging.Logger, RemovableHandle)):
            self._text(getattr(value, "name", ""))
        elif _is_builtin(value):
            self._text(f"{getattr(value, '__module__', '')} {value.__qualname__}")
        elif hasattr(value, "__wrapped__"):  # lru_cache
            self._value(value.__wrapped__, where)
        else:
            self._instance(value, where)

    def _mapping(self, value: Any, where: str) -> None:
        self._text(str(len(value)))
        for key, item in value.items():
            self._value(key, where)
            self._value(item, f"{where}[{key!r}]" if isinstance(key, str) else where)

    def _set(self, value: Any, where: str) -> None:
        if not all(isinstance(item, _ATOMS) for item in value):
            raise Unstable(f"{where} is a set, which has no order")
        for text in sorted(f"{type(item).__name__} {item!r}" for item in value):
            self._text(text)

    def _tensor(self, value: torch.Tensor, where: str) -> None:
        self._shape(value)
        if value.layout != torch.strided:
            raise Unstable(f"{where} is a sparse tensor")
        if not value.is_meta:
            flat = value.detach().cpu().contiguous().reshape(-1)
            self._hash.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")

    def _shape(self, value: torch.Tensor) -> None:
        kind = type(value).__name__
        strides = tuple(value.stride()) if value.layout == torch.strided else ()
        self._text(f"{kind} {tuple(value.shape)} {strides} {value.dtype} {value.device}")
        self._text(f"{value.requires_grad} {value.layout}")

    def _instance(self, value: Any, where: str) -> None:
        self._class(type(value), where)
        table = getattr(value, "__dict__", None)
        slots = [name for name in _slots(type(value)) if hasattr(value, name)]
        if table is None and not slots:
            try:
                reduced = value.__reduce_ex__(2)
            except Exception as error:
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                raise Unstable(f"{where} is a {kind}") from error
            self._value(reduced, where)
            return
        for name, item in (table or {}).items():
            self._text(name)
            self._value(item, f"{where}.{name}")
        for name in slots:
            self._value(getattr(value, name), f"{where}.{name}")

    # ---- modules ---------------------------------------------------------------------------------

    def _module(self, module: nn.Module, where: str) -> None:
        self._class(type(module), where)
        for name, value in module.__dict__.items():
            self._text(name)
            if name in ("_parameters", "_buffers"):
                self._weights(value)
            elif "_hooks" in name and isinstance(value, dict):  # keys count all handles ever made
                order = {key: index for index, key in enumerate(value)}
                self._value([(order.get(key), hook) for key, hook in value.items()], where)
            else:
                self._value(value, f"{where}.{name}")

    def _weights(self, table: Dict[str, Any]) -> None:
        """Parameters and buffers: their values play no part in a capture."""
        for name, tensor in table.items():
            self._text(name)
            if tensor is None:
                continue
            if id(tensor) in self._seen:  # tied
                self._text(f"again {self._seen[id(tensor)]}")
                continue
            self._seen[id(tensor)] = len(self._seen)
            self._alive.append(tensor)
            self._shape(tensor)

    # ---- code ------------------------------------------------------------------------------------

    def _class(self, kind: type, where: str) -> None:
        if kind in self._classes:
            return
        self._classes.add(kind)
        for base in kind.__mro__:
            self._text(f"{base.__module__} {base.__qualname__}")
            if self._counts_by_version(_file_of(base)):
                continue
            for name, value in base.__dict__.items():
                if name not in _NO_PART and not isinstance(value, _DESCRIPTORS):
                    self._text(name)
                    self._value(value, f"{base.__qualname__}.{name}")

    def _function(self, function: types.FunctionType, where: str) -> None:
        self._text(function.__qualname__)
        code = function.__code__
        self._value((function.__defaults__, function.__kwdefaults__), where)
        for cell in function.__closure__ or ():
            try:
                self._value(cell.cell_contents, where)
            except ValueError:  # not filled yet
                self._text("empty")
        if self._counts_by_version(code.co_filename):
            return
        self._code(code, where)
        names = list(_names(code))
        for name in names:
            if name in function.__globals__:
                self._text(name)
                self._global(function.__globals__[name], names, f"{function.__module__}.{name}")
        if any(name in _ENVIRONMENT for name in names):
            texts = [*_texts(code), *(function.__globals__.get(name) for name in names)]
            if not any(isinstance(text, str) and _VARIABLE.fullmatch(text) for text in texts):
                raise Unstable(f"{where} reads environment variables of unknown names")

    def _global(self, value: Any, names: List[str], where: str) -> None:
        """A global that code refers to; of a module what the same code takes from it."""
        self._value(value, where)
        if not isinstance(value, types.ModuleType):
            return
        theirs = self._counts_by_version(getattr(value, "__file__", None) or "")
        for name in names:
            item = vars(value).get(name)
            if theirs and not isinstance(item, _ATOMS):
                continue
            self._text(name)
            if isinstance(item, types.ModuleType) and item is not value:
                self._global(item, names, f"{where}.{name}")
            else:
                self._value(item, f"{where}.{name}")

    def _code(self, code: types.CodeType, where: str) -> None:
        self._hash.update(code.co_code)
        self._text(f"{code.co_names} {code.co_varnames} {code.co_freevars} {code.co_flags}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, where)
            else:
                self._value(constant, where)
        found = [name for name in _OUTSIDE if name in code.co_names]
        if found and _reads_outside(code):
            raise Unstable(f"{where} reads {found[0]}")

    # ---- sources ---------------------------------------------------------------------------------

    def _counts_by_version(self, file: str) -> bool:
        """Whether code is not the user's; notes other packages' files."""
        if _is_installed(file):
            self._files.add(file)
            return True
        return _is_standard(file)

    def _sources(self) -> Iterator[str]:
        for name in sorted(self._variables):
            yield f"{name} {os.environ.get(name)}"
        yield f"torch {torch.__version__} Python {sys.version}"
        yield f"poptorch_host {_own_sources()}"
        for file in sorted(self._files):
            yield f"{_package(file)} {_hash_file(file)}"
        mine = {
            name: file
            for name, module in list(sys.modules.items())
            for file in [getattr(module, "__file__", None) or ""]
            if file.endswith(".py") and not _is_standard(file) and not _is_installed(file)
        }
        for name in sorted(mine):
            yield f"{name} {_hash_file(mine[name])}"


_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_BUILTINS = (
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)


def _is_standard(file: str) -> bool:
    """Code of Python, torch or this package."""
    if not file or file.startswith("<frozen"):
        return True
    return file.startswith((_TORCH, _OWN)) or (file.startswith(_STDLIB) and not _is_installed(file))


def _is_installed(file: str) -> bool:
    """Code of another package, which has a version."""
    inside = any(f"{os.sep}{name}{os.sep}" in file for name in _SITES)
    return inside and not file.startswith((_TORCH, _OWN))


def _is_builtin(value: Any) -> bool:
    return isinstance(value, _BUILTINS)


def _slots(kind: type) -> List[str]:
    found: List[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _texts(code: types.CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _texts(constant)
        elif isinstance(constant, str):
            yield constant


def _reads_outside(code: types.CodeType) -> bool:
    for one in dis.get_instructions(code):
        if one.argval in ("open", "input"):
            if one.opname in ("LOAD_GLOBAL", "LOAD_NAME") and hasattr(builtins, one.argval):
                return True
        elif one.argval in _OUTSIDE and one.opname.startswith(("LOAD_", "IMPORT_")):
            return True
    return False


def _file_of(kind: type) -> str:
    if kind.__module__ == "builtins":
        return ""
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__ == "__main__":
        return "<user>"
    return getattr(module, "__file__", None) or ("" if _is_compiled_in(module) else "<user>")


def _is_compiled_in(module: types.ModuleType) -> bool:
    return module.__name__.partition(".")[0] in sys.builtin_module_names


@functools.lru_cache(maxsize=None)
def _own_sources() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(_OWN).rglob("*")):
        if path.suffix in (".py", ".txt", ".tsv"):
            total.update(path.read_bytes())
    return total.hexdigest()


@functools.lru_cache(maxsize=None)
def _package(file: str) -> str:
    """`name version` of the package that a file in site-packages belongs to."""
    inside = file.rpartition(f"-packages{os.sep}")[2]
    name = inside.split(os.sep)[0].partition(".")[0]
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:  # the distribution has another name
        return f"{name} {getattr(sys.modules.get(name), '__version__', '')}"


def _hash_file(file: str) -> str:
    try:
        return _hash_of(file, _stamp(file))
    except OSError:
        return "missing"


def _stamp(file: str) -> Tuple[int, int]:
    found = os.stat(file)
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=None)
def _hash_of(file: str, stamp: Tuple[int, int]) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
