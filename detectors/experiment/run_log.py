"""`run.log` in a run's folder: the command, what was logged, the traceback of what went wrong."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

__all__ = ["run_log"]

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def run_log(folder: Path, *, write: bool = True) -> Iterator[logging.Logger]:
    """Log to `folder/run.log` while this is open; an exception goes there in full and on.

    Args:
        folder: of the run.
        write: False in a process that leaves this to another: nothing is logged anywhere.
    """
    handler: logging.Handler = logging.NullHandler()
    if write:
        handler = logging.FileHandler(folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("detectors")
    loggers = [logger, logging.getLogger("data")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
    logger.info("command: %s", " ".join(sys.argv))
    try:
        yield logger
    except BaseException:
        logger.exception("stopped by")
        raise
    finally:
        for one, level in zip(loggers, before):
            one.setLevel(level)
            one.removeHandler(handler)
        handler.close()
