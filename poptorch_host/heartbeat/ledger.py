"""What ranks tell each other through torch.distributed's store, past all collectives.

Keys, below a prefix of the run and its restarts: beat/R counts up; who/R is the process of rank R
and what it does; left/R says how it ended; fault counts faults, fault/record is the first of them;
told counts who wanted to print it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import timedelta
from typing import Optional, Tuple

# torch.distributed has these names too, without types; absent where torch has no distributed
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from .faults import Fault
from .processes import Process

__all__ = ["DONE", "INTERRUPTED", "TERMINATED", "Ledger"]

DONE, TERMINATED, INTERRUPTED = 1, 1000, 1000000  # how a rank left; added up, the largest counts


class Ledger:
    """The keys of one job. Every call raises RuntimeError where the store is gone.

    The store itself is left alone: it serves one call at a time, and one that waits would hold up
    the beat.

    Args:
        store: what the ranks met in.
        timeout: seconds a call may take.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        base = _client(store)
        base.set_timeout(timedelta(seconds=timeout))
        run = os.environ.get("TORCHELASTIC_RUN_ID", "")
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"poptorch_host/heartbeat/{run}/{restarts}", base)

    def introduce(self, rank: int, label: str, process: Process) -> None:
        """Say who a rank is and what it does, and beat."""
        who = json.dumps({"label": label, "process": asdict(process)})
        self._store.set(f"who/{rank}", who)
        self.beat(rank)

    def who(self, rank: int) -> Tuple[str, Process]:
        """Label and process of a rank that has beaten."""
        who = json.loads(self._store.get(f"who/{rank}"))
        return who["label"], Process(**who["process"])

    def beat(self, rank: int) -> int:
        """Count a rank's beats up by one; returns their number."""
        return self._store.add(f"beat/{rank}", 1)

    def beats(self, rank: int) -> int:
        """A rank's beats until now, 0 if it never came."""
        return self._store.add(f"beat/{rank}", 0)

    def leave(self, rank: int, how: int) -> None:
        """A rank says goodbye: DONE, TERMINATED or INTERRUPTED."""
        self._store.add(f"left/{rank}", how)

    def left(self, rank: int) -> Optional[int]:
        """How a rank said goodbye; None if it has not."""
        code = self._store.add(f"left/{rank}", 0)
        return next((how for how in (INTERRUPTED, TERMINATED, DONE) if code >= how), None)

    def announce(self, fault: Fault) -> Fault:
        """Enter a fault, unless there is one: that was first, and is returned."""
        if self._store.add("fault", 1) > 1:
            return Fault.from_json(self._store.get("fault/record").decode())
        self._store.set("fault/record", fault.to_json())
        return fault

    def fault(self) -> Optional[Fault]:
        """The first fault, if there was one."""
        if self._store.add("fault", 0) == 0:
            return None
        return Fault.from_json(self._store.get("fault/record").decode())

    def is_told(self) -> bool:
        """Whether somebody prints the fault."""
        return self._store.add("told", 0) > 0

    def claim_telling(self) -> bool:
        """True for the one rank that is to print the fault."""
        return self._store.add("told", 1) == 1


def served_by_a_rank(store: Store) -> bool:
    """Whether rank 0 serves the store to the others; under torchrun its agent does."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return isinstance(_without_prefix(store), TCPStore) and not agent


def _client(store: Store) -> Store:
    """A connection of our own to the same store."""
    if hasattr(store, "clone"):
        return store.clone()
    base = _without_prefix(store)  # torch 2.0: no clone
    if isinstance(base, TCPStore):
        return TCPStore(base.host, base.port, None, False, wait_for_workers=False)
    return base


def _without_prefix(store: Store) -> Store:
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    return store
