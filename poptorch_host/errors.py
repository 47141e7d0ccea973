"""PopTorch's error classes, and how their text is put together.

What Python code finds reads `'poptorch_py_error': text`; what is found while a model is compiled
names the line of the user's code and what was going on: `In model.py:12: 'poptorch_cpp_error':
text`, then `Error raised in:` and one line for each step.
"""

from __future__ import annotations

import contextlib
from typing import Iterator

PYTHON, COMPILER = "poptorch_py_error", "poptorch_cpp_error"
LOG_FILE = "poptorch_error.log"
"""In the working directory: messages that are too long to be read on a screen."""
MAX_LINES = 80


class Error(Exception):
    """Anything found while compiling or running a model. Not a RuntimeError, as in PopTorch."""

    type: str = ""
    """`poptorch_py_error` for what Python code found, else where the error came from."""
    message: str = ""
    """The text without prefix."""
    location: str = ""
    """What was being done, one line each; empty for Python-side errors."""


class RecoverableError(Error):
    """A device error after which a reset is enough."""

    recovery_action: str = ""
    """IPU_RESET, LINK_RESET, PARTITION_RESET or FULL_RESET."""


class UnrecoverableError(Error):
    """A device error that needs a person."""


class ConfigFileError(Exception):
    """`Options.loadFromFile` met a line that is no accessor call."""


def createPoptorchError(msg: str) -> Error:
    """A `poptorch.Error` with the prefix of Python-side errors; returned, not raised."""
    error = Error(f"'{PYTHON}': {_readable(msg)}")
    error.type, error.message = PYTHON, msg
    return error


def compiler_error(message: str, place: str) -> Error:
    """A `poptorch.Error` for what a compiler would find; returned, not raised.

    Args:
        place: `file:line` of the user's code.
    """
    error = Error(f"In {place}: '{COMPILER}': {_readable(message)}")
    error.type, error.message = COMPILER, message
    return error


@contextlib.contextmanager
def raised_in(step: str) -> Iterator[None]:
    """Add a step to the location of a compiler's error that leaves this block.

    Args:
        step: what was being done, innermost first: "capture of Model.forward".
    """
    try:
        yield
    except Error as error:
        if error.type == COMPILER:
            known = error.location.splitlines()
            text = str(error) + ("" if known else "\nError raised in:")
            error.location = "\n".join([*known, f"[{len(known)}] {step}"])
            error.args = (f"{text}\n  [{len(known)}] {step}",)
        raise


def _readable(message: str) -> str:
    """The message, or its first lines and the name of the file that holds all of it."""
    lines = message.splitlines()
    if len(lines) <= MAX_LINES:
        return message
    try:
        with open(LOG_FILE, "w", encoding="utf-8") as file:
            file.write(message + "\n")
    except OSError:
        return message  # nowhere to put it
    return "\n".join(
        [*lines[:MAX_LINES], f"... and {len(lines) - MAX_LINES} more lines: all are in {LOG_FILE}"]
    )
