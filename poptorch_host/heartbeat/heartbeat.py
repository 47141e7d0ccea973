"""A heartbeat per rank: one rank's fault ends the whole job, and honest work never does.

    heartbeat.start(store, rank, size)
    heartbeat.relabel("stage 2 of 0-3, replica 0")
    heartbeat.report(error)    # this rank is lost: the others end
    heartbeat.stop()           # goodbye: this rank has done its part

A daemon thread of each rank counts its key of the store up, once a second, and watches the keys of
the next few ranks. A counter that stands still for 20 s, a process of the same machine that is
gone, a reported error or a store that is gone ends every rank with exit code 1; one of them prints
which rank it was. Collectives have no part in it: a rank may compute for hours between two of them.
Code that holds Python's lock stops the thread, not the work: ranks on the same machine that see the
process use its processor count on its behalf.

POPTORCH_HOST_HEARTBEAT_INTERVAL and POPTORCH_HOST_HEARTBEAT_LIMIT (seconds, 1 and 20) are for
tests.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Optional, Type

from torch._C._distributed_c10d import Store

from .faults import Fault, is_consequence, of_error, write_error_file
from .ledger import DONE, INTERRUPTED, TERMINATED, Ledger, served_by_a_rank
from .processes import ELSEWHERE, GONE, Process
from .watch import Watch

__all__ = ["relabel", "report", "start", "stop"]

INTERVAL = 1.0  # seconds between two beats
LIMIT = 20.0  # seconds a counter may stand still
FIRST = 3.0  # seconds the others leave it to go first
LEAVE = 0.5  # of the limit: what a rank that failed has for its own last words and writes


def start(store: Store, rank: int, size: int, label: str = "") -> None:
    """Begin to beat and to watch; call it right after the ranks have met, in the main thread.

    Args:
        store: what the ranks met in; it is used through a connection of its own.
        rank: of this process, 0..size-1.
        size: ranks in all.
        label: what this rank does, for messages: `stage 2 of 0-3, replica 0`.

    Raises:
        RuntimeError: it has begun already, or the store is gone.
        ValueError: a POPTORCH_HOST_HEARTBEAT_ variable is no positive number.
    """
    global _heart
    if _heart is not None:
        raise RuntimeError("heartbeat.start: this process beats already; stop() comes first")
    heart = _Heart(store, rank, size, label)
    heart.begin()
    _heart = heart


def relabel(label: str) -> None:
    """Say what this rank does from now on, for messages. Without `start`, nothing happens."""
    if _heart is not None:
        _heart.relabel(label)


def report(error: BaseException) -> None:
    """Tell the other ranks that `error` ends this one; they end within two intervals.

    An error that only says that another rank has gone is not told: the call then waits until the
    heartbeat finds that rank, which ends this process too. Without `start`, nothing happens.
    An error that leaves the program is reported by itself.
    """
    if _heart is not None:
        _heart.report(error)


def stop() -> None:
    """Say goodbye: from now on this rank's silence is no fault. Happens by itself at exit.

    Where rank 0 serves the store to the others, its call waits until they have said so too.
    """
    global _heart
    if _heart is not None:
        _heart.leave()
        _heart = None


class _Heart:
    """The beat of this rank, and its end."""

    def __init__(self, store: Store, rank: int, size: int, label: str) -> None:
        self.rank, self.size, self.label = rank, size, label
        self.interval = _seconds("INTERVAL", INTERVAL)
        self.limit = _seconds("LIMIT", LIMIT)
        self.ledger = Ledger(store, self.limit)
        self.watch = Watch(self.ledger, rank, size, self.limit, lambda: self.is_terminated)
        self.served_by_a_rank = served_by_a_rank(store)
        self.process = os.getpid()
        self.is_failing = False  # this rank's own error is on its way out
        self.is_terminated = False  # SIGTERM has come
        self.is_stopped = False
        self.is_store_gone = False
        self.looks = 0  # at the others, so far
        self._wake = threading.Event()
        self._hook = sys.excepthook
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._guard = threading.Thread(target=self._guard_store, name="store", daemon=True)

    # 1. Beginning and leaving, in the main thread

    def begin(self) -> None:
        self.ledger.introduce(self.rank, self.label, Process.this())
        sys.excepthook = self._on_error
        atexit.register(self._on_exit)
        multiprocessing.util.Finalize(None, self._on_exit, exitpriority=0)  # spawned: no atexit
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_terminate)
        self._thread.start()
        self._guard.start()

    def relabel(self, label: str) -> None:
        """See the function `relabel`."""
        if label != self.label and self._is_beating():
            self.label = label
            self.ledger.introduce(self.rank, label, Process.this())

    def leave(self, how: int = DONE) -> None:
        """Say goodbye."""
        if not self._is_beating():
            return
        with contextlib.suppress(RuntimeError):  # a store that goes away now is missed by nobody
            self.ledger.leave(self.rank, how)
            while self._serves() and not all(map(self._is_done, range(1, self.size))):
                time.sleep(self.interval / 4)
        self._halt()
        if sys.excepthook == self._on_error:
            sys.excepthook = self._hook
        atexit.unregister(self._on_exit)
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._on_terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def report(self, error: BaseException) -> None:
        """See the function `report`."""
        if self.is_failing or not self._is_beating():
            return
        if is_consequence(error):
            self._await_cause()
        self.is_failing = True
        fault = of_error(self.rank, self.label, error)
        write_error_file(fault.sentence(), fault.time, error)
        with contextlib.suppress(RuntimeError):  # the others find out themselves
            self.ledger.announce(fault)
        self._wake.set()

    def _on_error(
        self, kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]
    ) -> None:
        """As `sys.excepthook`: an error leaves the program."""
        is_failure = self._is_beating() and isinstance(error, Exception)
        if is_failure and not self.is_failing and is_consequence(error):
            self._await_cause()  # what follows from another rank's fault is no news
        self._hook(kind, error, trace)
        if is_failure:
            self.report(error)
        elif isinstance(error, KeyboardInterrupt):
            self.leave(INTERRUPTED)

    def _on_exit(self) -> None:
        """Goodbye, unless an error brought us here which somebody else's excepthook took."""
        error = getattr(sys, "last_value", None)
        if isinstance(error, Exception):
            self.report(error)
        if self.is_failing and self._is_beating():
            self._halt()
            self._await_telling()
        self.leave()

    def _on_terminate(self, number: int, frame: Optional[FrameType]) -> None:
        """On SIGTERM: if a rank's fault is behind it, the thread says so; else it acts as ever."""
        if os.getpid() == self.process:
            if self.is_failing:
                return  # its own words are on their way; the thread sees to it that it ends
            self.is_terminated = True
            seen, patience = self.looks, time.monotonic() + 5
            while self.looks < seen + 2 and time.monotonic() < patience:
                self._wake.set()
                time.sleep(0.02)
            with contextlib.suppress(RuntimeError):
                self.ledger.leave(self.rank, TERMINATED)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _await_cause(self) -> None:
        """Wait until the thread has found who is gone, and has ended this process for it."""
        time.sleep(self.limit + 4 * self.interval)
        with contextlib.suppress(RuntimeError):  # then the thread finds no store either
            for rank in range(self.size):
                if rank != self.rank and self.ledger.left(rank) is not None:
                    text = f"ended while rank {self.rank} ({self.label}) still needed it"
                    self._end(self.ledger.announce(Fault(rank, "", text, time=time.time())))

    def _await_telling(self) -> None:
        """As the rank that serves the store: fail only after the others have read of it."""
        patience = time.monotonic() + LEAVE * self.limit
        with contextlib.suppress(RuntimeError):
            while self._serves() and time.monotonic() < patience and not self.ledger.is_told():
                time.sleep(self.interval / 4)
            time.sleep(2 * self.interval if self._serves() else 0.0)

    def _serves(self) -> bool:
        return self.served_by_a_rank and self.rank == 0 and self.size > 1

    def _halt(self) -> None:
        """Let no thread be inside a call of the store when Python ends: that aborts."""
        self.is_stopped = True
        self._wake.set()
        self._thread.join(self.interval)

    def _is_beating(self) -> bool:
        return not self.is_stopped and os.getpid() == self.process  # no child of a fork

    def _is_done(self, rank: int) -> bool:
        return self.ledger.left(rank) is not None or self.ledger.beats(rank) == 0

    # 2. Beating, in threads

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            self._wake.wait(self.interval)
            self._wake.clear()
            if self.is_stopped:
                return
            now = time.monotonic()
            ran = min(now - before, 2 * self.interval)  # more is a pause of this process
            before = now
            try:
                self.ledger.beat(self.rank)
                fault = self.ledger.fault() or self.watch.look(ran)
                if fault is not None:
                    fault = self.ledger.announce(fault)
            except RuntimeError as error:
                fault = self._fault_of_store(str(error))
            self.looks += 1
            if fault is not None and not self.is_stopped:
                self._end(fault)

    def _guard_store(self) -> None:
        """End this process where a call of the store does not come back."""
        silent, looks = 0.0, 0
        while not self.is_stopped:
            time.sleep(self.interval)
            silent = silent + self.interval if self.looks == looks else 0.0
            looks = self.looks
            if silent > self.limit + self.interval and not self.is_stopped:
                self._end(self._fault_of_store(f"no answer for {self.limit:g} s"))

    def _fault_of_store(self, error: str) -> Fault:
        """That the store is gone; or rather the rank that served it, where that is seen."""
        self.is_store_gone = True
        time.sleep(self.interval)  # a process closes its connections before it is gone
        death = self.watch.death_of(0) if self.served_by_a_rank else None
        if death is not None:
            return death
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        reason = error.splitlines()[0] if error else "no answer"
        text = f"the store at {where}, where the ranks meet, is gone: {reason}"
        return Fault(-1, "", text, time=time.time())

    # 3. The end

    def _end(self, fault: Fault) -> None:
        """End this process, after the job's one message and what stands in buffers."""
        if fault.rank == self.rank and self.is_failing:
            time.sleep(LEAVE * self.limit)
        else:
            if self._is_to_tell(fault):
                _write(fault.message())
                self._kill_if_stopped(fault)
            self._await_leaving(fault)
            own_words = not fault.stopped  # then torchrun's root cause is that rank, else this one
            write_error_file(fault.sentence(), fault.time + own_words)
        flush = threading.Thread(target=_flush, daemon=True)  # the main thread may hold a stream
        flush.start()
        flush.join(2.0)
        os._exit(1)

    def _is_to_tell(self, fault: Fault) -> bool:
        """Whether this rank prints: the lowest that lives, or who comes first if that is slow."""
        lower = [rank for rank in range(self.rank) if rank != fault.rank]
        if not self.is_store_gone:
            with contextlib.suppress(RuntimeError):
                patience = time.monotonic() + (1.5 * self.interval if lower else 0.0)
                while time.monotonic() < patience and not self.ledger.is_told():
                    time.sleep(self.interval / 10)
                return self.ledger.claim_telling()
        # without a store, the lowest on each machine
        return all(peer.is_elsewhere() for peer in self.watch.peers if peer.rank in lower)

    def _await_leaving(self, fault: Fault) -> None:
        """Let a rank of this machine that failed go first: the launcher looks at the first."""
        if fault.stopped or fault.rank < 0 or self.is_store_gone:
            return
        with contextlib.suppress(RuntimeError):
            process = self.ledger.who(fault.rank)[1]
            patience = time.monotonic() + min(FIRST, LEAVE * self.limit)
            while process.state() not in (GONE, ELSEWHERE) and time.monotonic() < patience:
                time.sleep(self.interval / 10)

    def _kill_if_stopped(self, fault: Fault) -> None:
        """Kill the job's own process that stands still here: it cannot end itself."""
        for peer in self.watch.peers:
            if fault.stopped and peer.rank == fault.rank and peer.process is not None:
                with contextlib.suppress(OSError):
                    os.kill(peer.process.number, signal.SIGKILL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _seconds(name: str, default: float) -> float:
    variable = f"POPTORCH_HOST_HEARTBEAT_{name}"
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise ValueError(f"{variable} must be a positive number of seconds, got {text!r}")
    return value


def _write(text: str) -> None:
    """Past `sys.stderr`, which may be closed or silenced by now."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or nobody reads it any more
            stream.flush()


_heart: Optional[_Heart] = None
