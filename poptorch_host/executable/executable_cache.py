"""`Options.enableExecutableCaching`: what compiling found, kept in a folder for other processes.

A file holds one executable; its name is a hash of all that a capture depends on, which is made
without a capture. Whatever cannot be hashed safely is compiled as if there were no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import platform
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Optional

import torch
from torch import nn
from torch.nn.modules import module as module_globals

from .. import custom_ops, settings
from .._logging import logger
from ..capture import operators
from ..options import Options
from ..tensors import structure
from ..tensors.arguments import Arguments
from .executable import VERSION, Executable, options_key
from .fingerprint import Fingerprint, Unstable
from .whole_file import write_whole

MAGIC = b"poptorch_host cached executable\n"
SUFFIX = ".poptorch"


def folder_of(options: Options) -> Optional[Path]:
    """The cache's folder, None when caching is off."""
    session = options._Popart.options
    if not session.get("enableEngineCaching") or not session.get("cachePath"):
        return None
    return Path(session["cachePath"])


def key_of(model: nn.Module, arguments: Arguments, options: Options, *, training: bool) -> str:
    """The hash of all that the capture of a model depends on.

    Args:
        arguments: of a call, with meta tensors.

    Raises:
        Unstable: the model holds something that cannot be recognised in another process.
    """
    key = Fingerprint()
    key.add("format", f"{VERSION} {training}")
    key.add("machine", f"{platform.system()} {platform.machine()} {_capability()}")
    key.add("settings", repr(settings.current()))
    key.add("options", options_key(options))
    key.add("strategy", options._execution_strategy)
    key.add("names", options._module_namescope_enabled)
    key.add("torch", _torch_state())
    key.add("hooks", [list(hooks.values()) for hooks in _global_hooks()])
    key.add("operators", [sorted(map(str, custom_ops._table)), operators.LOWERED])
    key.add("parsers", [f"{kind.__module__} {kind.__qualname__}" for kind in structure._PARSERS])
    key.add("arguments", arguments)
    key.add("model", model)
    return key.digest()


class ExecutableCache:
    """The files of one folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if needed.

        Raises:
            AssertionError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(str(folder), os.W_OK | os.X_OK)
        except OSError:
            writable = False
        assert writable, (
            f"enableExecutableCaching expects a directory that can be written, got {folder}"
        )
        self._folder = folder

    def get(
        self, model: nn.Module, make_key: Callable[[], str], capture: Callable[[], Executable]
    ) -> Executable:
        """The executable of a key, from its file or captured and written there.

        Processes with the same model wait for each other, so that one captures.
        """
        try:
            key = make_key()
        except Unstable as reason:
            logger.info("executable cache: not used: %s", reason)
            return capture()
        path = self._folder / (key + SUFFIX)
        with self._alone(model):
            executable = _read(path)
            if executable is not None:
                logger.info("executable cache: hit %s", path)
                return executable
            executable = capture()
            _write(path, executable)
        return executable

    @contextlib.contextmanager
    def _alone(self, model: nn.Module) -> Iterator[None]:
        """Hold the lock file of a model; without locks in this file system go on without."""
        name = hashlib.md5(repr(model).encode("utf-8", "replace")).hexdigest() + ".lock"
        with contextlib.ExitStack() as stack:
            try:
                import fcntl

                stream = stack.enter_context(open(self._folder / name, "a", encoding="utf-8"))
                fcntl.flock(stream, fcntl.LOCK_EX)  # closing gives it back
            except (ImportError, OSError) as error:
                logger.debug("executable cache: no lock: %s", error)
            yield


def direct_inductor(folder: Path) -> None:
    """Let `torch.compile` keep its code in the cache as well, unless the program says where."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        logger.info("executable cache: torch.compile writes to %s", folder / "inductor")


def _read(path: Path) -> Optional[Executable]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("executable cache: %s is ignored: %s", path, error)
        return None
    head, digest, body = data[: len(MAGIC)], data[len(MAGIC) :][:32], data[len(MAGIC) + 32 :]
    if head != MAGIC or hashlib.sha256(body).digest() != digest:
        logger.warning("executable cache: %s is ignored: it is damaged or no file of ours", path)
        return None
    try:
        found = pickle.loads(body)
    except Exception as error:  # whatever the classes inside raise
        logger.warning("executable cache: %s is ignored: %r", path, error)
        return None
    return found if isinstance(found, Executable) else None


def _write(path: Path, executable: Executable) -> None:
    program = executable.program
    # What a capture did besides finding the program would be missing after a hit.
    reasons = {
        "forward sets attributes": program.attributes,
        "forward returns constants of the host": program.constants,
        "it has operators that PopTorch does not take": program.report.unsupported,
    }
    for reason, found in reasons.items():
        if found:
            logger.info("executable cache: not stored: %s", reason)
            return
    try:
        body = pickle.dumps(executable, protocol=4)
    except Exception as error:  # whatever the user's types raise
        logger.info("executable cache: not stored: %r", error)
        return

    def write(stream: IO[bytes]) -> None:
        stream.write(MAGIC + hashlib.sha256(body).digest())
        stream.write(body)

    write_whole(path, write)
    logger.info("executable cache: stored %s", path)


def _capability() -> str:
    backend = getattr(torch.backends, "cpu", None)  # since torch 2.1
    return str(backend.get_cpu_capability()) if backend is not None else ""


def _torch_state() -> str:
    mha = getattr(torch.backends, "mha", None)
    return repr(
        (
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            _autocast(),
            torch.get_float32_matmul_precision(),
            mha.get_fastpath_enabled() if mha else None,
        )
    )


def _autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # before torch 2.4
        return bool(torch.is_autocast_cpu_enabled())


def _global_hooks() -> Iterator[Any]:
    for name in ("_global_forward_pre_hooks", "_global_forward_hooks"):
        yield getattr(module_globals, name)
