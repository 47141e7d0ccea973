"""A process of this job as others of the job see it: alive, stopped, at work or gone.

Read from Linux's /proc, so only for processes of the same machine and PID namespace; of others
nothing is known. A process is its number and its start time: numbers are given out again.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import List, Optional

__all__ = ["ELSEWHERE", "GONE", "STOPPED", "WAITING", "WORKING", "Process", "memory_kills"]

ELSEWHERE = "elsewhere"  # on another machine, or no /proc to look at
GONE = "gone"
STOPPED = "stopped"  # SIGSTOP, or a debugger holds it
WORKING = "working"  # has used processor time since the last look
WAITING = "waiting"


@dataclass
class Process:
    """One process, and what was seen of it last."""

    host: str
    """Name of its machine, for people."""
    space: str
    """Its machine's boot and its PID namespace; empty where /proc has neither."""
    number: int
    """Process ID."""
    began: int
    """Its start, clock ticks after the machine's."""
    _used: int = field(default=-1, compare=False)

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        seen = _fields(os.getpid())
        return cls(socket.gethostname(), _space(), os.getpid(), int(seen[19]) if seen else -1)

    def state(self) -> str:
        """ELSEWHERE, GONE, STOPPED, WORKING or WAITING, now."""
        if not self.space or self.space != _space():
            return ELSEWHERE
        seen = _fields(self.number)
        if seen is None or seen[0] in "ZX" or int(seen[19]) != self.began:
            return GONE
        if seen[0] in "Tt":
            return STOPPED
        used, before = int(seen[11]) + int(seen[12]), self._used  # in user code and in the kernel
        self._used = used
        return WORKING if 0 <= before < used else WAITING


def memory_kills() -> int:
    """Processes this machine has killed for want of memory since it started; 0 where unknown."""
    for line in _read("/proc/vmstat").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def _fields(number: int) -> Optional[List[str]]:
    """Of /proc/PID/stat what follows the name: state, ..., 11: utime, 12: stime, 19: starttime."""
    text = _read(f"/proc/{number}/stat")
    return text.rpartition(")")[2].split() if text else None


def _space() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    boot = _read("/proc/sys/kernel/random/boot_id").strip()
    return f"{boot} {socket.gethostname()} {namespace}"


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # a process that is gone, or no Linux
        return ""
