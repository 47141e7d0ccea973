"""Errors as a person wants to read them: what, where, what would do; at most six lines, and an exit
code.

0 done · 1 the run failed · 2 the command is wrong · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import errno
import importlib.metadata
import re
import sys
import traceback
from pathlib import Path
from typing import Callable, Dict, Optional

from detectors.experiment.atomic import DiskFullError
from detectors.experiment.interrupts import Terminated
from detectors.experiment.processes import OtherFailedError, Processes

__all__ = ["FAILED", "USAGE", "explain", "guarded", "torchvision_for"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130
MAX_LINES = 6

CALLERS = (ValueError, TypeError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""The caller's mistakes, by the project's rule; everything else is the machine's state or ours."""


def guarded(
    run: Callable[[], int], *, debug: bool = False, processes: Optional[Processes] = None
) -> int:
    """Call `run`; turn what it raises into a screen on stderr and an exit code.

    Of several processes the first shows its error, or the one that another has told it of; an error
    that it cannot know of in time is shown by the process that has it.

    Args:
        run: returns an exit code.
        debug: show the traceback too.
        processes: that run the same; None = this one alone.
    """
    processes = processes or Processes()
    try:
        return run()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED
    except OtherFailedError as error:
        if not error.shown:
            print(error, file=sys.stderr)
        processes.part(error)
        return error.exit_code
    except (KeyboardInterrupt, Terminated) as error:
        code = error.exit_code if isinstance(error, Terminated) else INTERRUPTED
        text = str(error) or "interrupted"
        processes.tell(code, text, wait=False)
        if processes.first:
            print(text, file=sys.stderr)
        return code
    except Exception as error:
        processes.await_cause(error)
        if debug:
            traceback.print_exc()
        text = clip(explain(error))
        code = USAGE if isinstance(error, CALLERS) else FAILED
        heard = processes.tell(code, text, trace=traceback.format_exc())
        if not heard:
            print(processes.signed(text), file=sys.stderr)
        processes.part(error, heard=heard)
        return code


def clip(text: str) -> str:
    """At most six lines."""
    lines = text.strip().splitlines()
    if len(lines) <= MAX_LINES:
        return "\n".join(lines)
    return "\n".join([*lines[: MAX_LINES - 1], "… (--debug shows everything)"])


def explain(error: Exception) -> str:
    """`error: ...` and what would do."""
    text = without_traceback(str(error)) or type(error).__name__
    if is_torchvision_mismatch(error):
        return explain_torchvision(text)
    if isinstance(error, ImportError):
        return f"error: {text}\n{explain_import(error)}"
    if is_out_of_memory(error):
        return f"error: out of memory: {first_line(text)}\na smaller --batch or --size needs less"
    if isinstance(error, DiskFullError):
        return f"error: {error}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or "the results"
        return f"error: disk full writing {where}; what is there is complete"
    from_poptorch = type(error).__module__.partition(".")[0] in ("poptorch", "poptorch_host")
    if from_poptorch or isinstance(error, (*CALLERS, OSError, RuntimeError, NotImplementedError)):
        return f"error: {text}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"error: {type(error).__name__}: {text}\n"
        f"at {place.filename}:{place.lineno}; a fault of the program: --debug shows the traceback"
    )


def without_traceback(text: str) -> str:
    """What a DataLoader's worker raised; torch puts the traceback before it, which is indented."""
    if not re.match(r"Caught \w+ in DataLoader worker process", text):
        return text
    lines = text.splitlines()
    start = max(number for number, line in enumerate(lines) if line.startswith(" ")) + 1
    return re.sub(r"^[\w.]+: ", "", "\n".join(lines[start:]))


def first_line(text: str) -> str:
    return text.strip().splitlines()[0]


def is_out_of_memory(error: Exception) -> bool:
    """Python's, CUDA's, or torch's CPU allocator's, which is a plain RuntimeError."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def is_torchvision_mismatch(error: Exception) -> bool:
    return "torchvision::nms does not exist" in str(error) or (
        isinstance(error, ImportError) and "torchvision" in str(error)
    )


def torchvision_for(torch: str) -> Optional[str]:
    """The torchvision release line that belongs to a torch release: 2.N has 0.(N + 15).

    >>> torchvision_for("2.0.1+cpu")
    '0.15'
    """
    match = re.match(r"2\.(\d+)", torch)
    return f"0.{int(match.group(1)) + 15}" if match else None


def versions(*packages: str) -> Dict[str, str]:
    """Installed versions, without importing anything."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def explain_torchvision(text: str) -> str:
    found = versions("torch", "torchvision")
    fitting = torchvision_for(found["torch"])
    wanted = f"torchvision=={fitting}.*" if fitting else "torchvision"
    return (
        f"error: torch {found['torch']} does not fit torchvision {found['torchvision']}\n"
        f"({first_line(text)})\n"
        f'pip install "torch=={found["torch"].partition("+")[0]}" "{wanted}" from one index'
    )


def explain_import(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    if name in ("poptorch", "popart", "poplar", "popdist"):
        return (
            "the Poplar SDK is installed but not enabled: source its enable.sh, or use --device cpu"
        )
    if name == "data" and not (Path.cwd() / "data").is_dir():
        return "`data` is not part of the installed package: run this from a clone"
    return f"pip install {name}" if name else "python -m detectors doctor says what is missing"
