"""A fault of one rank: what happened, in words for people, for other ranks and for torchrun."""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import asdict, dataclass
from typing import Iterator, Optional

from torch import distributed

__all__ = ["Fault", "is_consequence", "of_error", "write_error_file"]

_OF_OTHERS = (  # texts of gloo and NCCL when the process at the other end has gone
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Socket closed",
    "gloo/transport",
    "ncclRemoteError",
    "ncclSystemError",
    "NCCL communicator was aborted",
)
_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")
LONGEST = 500  # characters of an error for the others; all of it stands in its own traceback


@dataclass(frozen=True)
class Fault:
    """Why the job ends."""

    rank: int
    """Whose fault; -1 is the store's."""
    label: str
    """What the rank does: `stage 2 of 0-3, replica 0`."""
    text: str
    """What happened, the rest of a sentence: `was killed`."""
    stopped: bool = False
    """Its process stands still but is there."""
    time: float = 0.0
    """When it began, seconds since 1970."""

    def sentence(self) -> str:
        """`rank 2 (stage 2 of 0-3, replica 0) was killed`."""
        if self.rank < 0:
            return self.text
        return f"rank {self.rank}{f' ({self.label})' if self.label else ''} {self.text}"

    def message(self) -> str:
        """What is printed once for the whole job: the sentence, and how to go on."""
        return (
            f"poptorch_host: {self.sentence()}\n"
            "poptorch_host: every rank ends, exit code 1. Start again from the last checkpoint"
            " (resume=auto); torchrun --max-restarts=N restarts by itself.\n"
        )

    def to_json(self) -> str:
        """For the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Fault:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


def of_error(rank: int, label: str, error: BaseException) -> Fault:
    """The fault of a rank which an error ends: its class and the first line of its message."""
    first = (str(error).strip().splitlines() or [""])[0]
    words = f"{type(error).__name__}: {first}" if first else type(error).__name__
    kind = "ran out of memory" if _is_memory(error) else "failed"
    return Fault(rank, label, f"{kind}: {words[:LONGEST]}", time=time.time())


def is_consequence(error: BaseException) -> bool:
    """Whether an error says that another rank has gone, not what is wrong here."""
    network = getattr(distributed, "DistNetworkError", ())
    return any(
        isinstance(link, network)
        or (isinstance(link, RuntimeError) and any(text in str(link) for text in _OF_OTHERS))
        for link in _chain(error)
    )


def write_error_file(sentence: str, when: float, error: Optional[BaseException] = None) -> None:
    """Tell torchrun, whose summary takes the earliest file as the root cause.

    Where torchrun names no file, or one is written already, nothing happens.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or os.path.exists(path):
        return
    shown = sentence
    if error is not None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        shown = "".join(lines).rstrip()
    extra = {"py_callstack": shown, "timestamp": str(int(when))}
    try:
        with open(path, "w") as file:
            json.dump({"message": {"message": sentence, "extraInfo": extra}}, file)
    except OSError:
        pass  # the summary then has exit codes only; the message is printed all the same


def _is_memory(error: BaseException) -> bool:
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, RuntimeError) and any(text in str(link) for text in _OF_MEMORY))
        for link in _chain(error)
    )


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """An error and those it was raised from."""
    for _ in range(20):  # a chain may be a ring
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
