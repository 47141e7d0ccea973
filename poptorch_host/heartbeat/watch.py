"""One rank's look at others: whose counter stands still, whose process is gone."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, List, Optional

from .faults import Fault
from .ledger import TERMINATED, Ledger
from .processes import ELSEWHERE, GONE, STOPPED, WORKING, Process, memory_kills

__all__ = ["Peer", "Watch"]

WATCHED = 8  # ranks each rank watches, the next ones: so one store serves any number of ranks


class Peer:
    """Another rank, as seen from here."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.label = ""
        self.process: Optional[Process] = None
        """None until it has beaten."""
        self.beats = 0
        self.quiet = 0.0
        """Seconds its counter has stood still while this process ran."""
        self.has_left = False

    def is_elsewhere(self) -> bool:
        """Whether it is known to be on another machine."""
        return self.process is not None and self.process.state() == ELSEWHERE

    def fault(self, text: str, *, stopped: bool = False) -> Fault:
        """Its fault, which began when it fell silent."""
        return Fault(self.rank, self.label, text, stopped, time.time() - self.quiet)


class Watch:
    """The next ranks after `rank`, cyclically.

    Args:
        limit: seconds a counter may stand still.
        is_ending: whether SIGTERM has come to this process too.
    """

    def __init__(
        self, ledger: Ledger, rank: int, size: int, limit: float, is_ending: Callable[[], bool]
    ) -> None:
        self.ledger, self.limit, self.is_ending = ledger, limit, is_ending
        following = range(rank + 1, rank + 1 + min(WATCHED, size - 1))
        self.peers: List[Peer] = [Peer(number % size) for number in following]
        self.memory_kills = memory_kills()

    def look(self, ran: float) -> Optional[Fault]:
        """The first fault among the watched ranks, if there is one.

        Args:
            ran: seconds this process has run since the last look.
        """
        for peer in self.peers:
            fault = None if peer.has_left else self._examine(peer, ran)
            if fault is not None:
                return replace(fault, label=self.ledger.who(peer.rank)[0])
        return None

    def death_of(self, rank: int) -> Optional[Fault]:
        """That a rank's process is gone, if this machine alone shows it."""
        for peer in self.peers:
            if peer.rank == rank and peer.process is not None and peer.process.state() == GONE:
                return self._death(peer, peer.process)
        return None

    def _examine(self, peer: Peer, ran: float) -> Optional[Fault]:
        beats = self.ledger.beats(peer.rank)
        if beats == 0:
            return None  # it has not joined yet, and joining is not watched
        if peer.process is None:
            peer.label, peer.process = self.ledger.who(peer.rank)
        state = peer.process.state()
        if beats != peer.beats and state != GONE:
            peer.beats, peer.quiet = beats, 0.0
            return None
        how = self.ledger.left(peer.rank)  # asked after the process was found gone
        if how == TERMINATED and not self.is_ending():
            return peer.fault("was ended by SIGTERM")
        if how is not None:
            peer.has_left = True
            return None
        if state == GONE:
            return self._death(peer, peer.process)
        peer.quiet += ran
        if state == WORKING and peer.quiet > self.limit / 4:  # holds Python's lock, and works
            peer.beats, peer.quiet = self.ledger.beat(peer.rank), 0.0
        if peer.quiet < self.limit:
            return None
        return self._silence(peer, peer.process, state)

    def _death(self, peer: Peer, process: Process) -> Fault:
        where = f"(process {process.number} on {process.host} is gone)"
        if memory_kills() > self.memory_kills:
            return peer.fault(f"was killed when the machine was out of memory {where}")
        return peer.fault(f"was killed, or left without a word {where}")

    def _silence(self, peer: Peer, process: Process, state: str) -> Fault:
        stopped = ", which is stopped" if state == STOPPED else ""
        where = f"(process {process.number} on {process.host}{stopped})"
        here = state != ELSEWHERE
        return peer.fault(f"stopped answering for {self.limit:g} s {where}", stopped=here)
