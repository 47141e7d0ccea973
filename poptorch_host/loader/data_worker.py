"""The parent's side of the process that loads ahead: start it, take elements, stop it.

S slots of shared memory form a ring; the process fills them (`fetcher.py`), this side empties them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from multiprocessing import connection, util
from typing import Any, Optional, Tuple

import torch.multiprocessing as multiprocessing

from .._logging import logger
from ..enums import SharingStrategy
from ..errors import createPoptorchError
from ..tensors.structure import flatten, rebuild
from . import fetcher
from .shared_memory import AnonymousFile, bytes_needed, cut

_PATIENCE = 5.0  # seconds for a process to leave by itself before it is made to
_STARTS = {
    SharingStrategy.SharedMemory: "spawn",
    SharingStrategy.FileSystem: "spawn",
    SharingStrategy.Fork: "fork",
    SharingStrategy.ForkServer: "forkserver",
}
_BEFORE_EXIT = 10  # finalizers with a priority run before multiprocessing waits for all processes
_LIVENESS_CHECK = 1.0  # seconds between looks at whether the process still lives


class DataWorker:
    """A running process and its ring.

    `piece_size` is the first dimension of what the dataset yields.

    Args:
        job: what it loads, and how.
        strategy: how the process is started and gets the dataset.

    Raises:
        poptorch.Error: it ended before it had loaded a first element.
    """

    def __init__(self, job: fetcher.Job, strategy: SharingStrategy) -> None:
        self._generation = 0
        self._begun = False  # START is sent for the iteration that comes next
        self._untouched = True  # no element of that iteration was taken
        self._held: Optional[int] = None  # slot whose views the user has
        self._failure: Optional[str] = None
        file = AnonymousFile()
        try:
            self._start(job, strategy, file)
            self._finalizer = util.Finalize(
                self, _stop, (self._process, self._link), exitpriority=_BEFORE_EXIT
            )
            logger.debug("AsynchronousDataAccessor worker process: %d", self._process.pid)
            try:
                self._receive_layout(file, job.slots)
            except BaseException:
                self.stop()
                raise
        finally:
            file.close()

    def begin(self) -> None:
        """Begin an iteration: over what is already loaded if nothing was taken of it, else anew."""
        self._release()
        if not self._untouched:
            self._generation += 1
            self._send(fetcher.RESET, self._generation)
            self._begun = False
        if not self._begun:
            self._send(fetcher.START)
        self._begun = self._untouched = True

    def take(self, *, views: bool) -> Any:
        """The next element.

        Args:
            views: hand out the ring's own memory, which changes after the next `take` or `begin`.

        Raises:
            StopIteration: the iteration is through, or none has begun.
            AssertionError: the process failed.
        """
        self._release()
        if not self._begun:
            raise StopIteration
        message = self._receive()
        while message[1] != self._generation:  # from before a reset
            message = self._receive()
        if message[0] == fetcher.END:
            self._begun, self._untouched = False, True
            raise StopIteration
        self._untouched = False
        _, _, slot, count = message
        tensors = self._slots[slot]
        if count:
            tensors = [tensor[:count] for tensor in tensors]
        if not views:
            tensors = [tensor.clone() for tensor in tensors]
        self._held = slot
        if not views:
            self._release()
        return rebuild(self._skeleton, iter(tensors))

    def stop(self) -> None:
        """End the process, which may take seconds if it is loading. Twice is once."""
        self._finalizer()

    # ---- starting --------------------------------------------------------------------------------

    def _start(self, job: fetcher.Job, strategy: SharingStrategy, file: AnonymousFile) -> None:
        context: Any = multiprocessing.get_context(_STARTS[strategy])
        if strategy == SharingStrategy.ForkServer:
            fetcher.preload_in_forkserver()
        self._link, theirs = context.Pipe()
        parents = self._link if strategy == SharingStrategy.Fork else None
        self._process = context.Process(
            target=fetcher.serve, args=(job, file, theirs, parents), name="poptorch data worker"
        )
        logger.debug("AsynchronousDataAccessor parent process: %d", os.getpid())
        try:
            self._process.start()
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()

    def _receive_layout(self, file: AnonymousFile, slots: int) -> None:
        try:
            _, skeleton, self.piece_size = self._receive()
        except AssertionError as error:
            logger.error("%s", error)
            last = str(error).rstrip().splitlines()[-1]
            raise createPoptorchError(
                "AsynchronousDataAccessor worker thread failed to start (Check above for details):"
                f" {last}"
            ) from None
        self._skeleton = pickle.loads(skeleton)
        layout = flatten(self._skeleton)
        self._slots = cut(file.map(bytes_needed(layout, slots)), layout, slots)

    # ---- messages --------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._held is not None:
            slot, self._held = self._held, None
            self._send(fetcher.FREE, slot)

    def _send(self, kind: int, value: int = 0) -> None:
        with contextlib.suppress(OSError):  # its end is closed: `_receive` says why
            self._link.send((kind, value))

    def _receive(self) -> Tuple[Any, ...]:
        """The next message.

        Raises:
            AssertionError: the process failed, now or before.
        """
        while self._failure is None:
            try:
                ready = connection.wait([self._link, self._process.sentinel], _LIVENESS_CHECK)
                if self._link in ready or self._link.poll():
                    message: Tuple[Any, ...] = self._link.recv()
                    if message[0] != fetcher.FAILED:
                        return message
                    self._failure = message[1]
                elif not self._process.is_alive():
                    self._failure = ""
            except (EOFError, OSError):
                self._failure = ""
        self._process.join(_PATIENCE)
        ended = f"the process ended with exit code {self._process.exitcode}"
        raise AssertionError(
            f"An error occurred in the data fetcher: {self._failure.rstrip() or ended}"
        )


def in_a_file(job: fetcher.Job, folder: str) -> None:
    """Pickle the job's dataset into a file of `folder`, which the worker reads."""
    descriptor, name = tempfile.mkstemp(suffix=".pickle", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        pickle.dump(job.dataset, file, protocol=4)
    job.dataset, job.in_file = name, True


def _stop(process: Any, link: connection.Connection) -> None:
    """Ask the process to leave, then make it."""
    with contextlib.suppress(OSError):  # it is gone, or going
        link.send((fetcher.STOP, 0))
    link.close()
    try:
        process.join(_PATIENCE)
    finally:
        for end in (process.terminate, process.kill):
            if process.is_alive():
                end()
                process.join(_PATIENCE)
