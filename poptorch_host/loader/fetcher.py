"""The worker process of an `AsynchronousDataAccessor`: it puts elements into a ring of slots.

Messages to the worker: `START` (an iteration begins), `FREE` slot (its data is not needed any
more), `RESET` generation (begin the data again), `STOP`. Messages from it: `LAYOUT` once, then
`READY` generation slot count, `END` generation when the data is through, `FAILED` text. Of a
generation that was reset while its messages were under way nothing counts.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Dict, Iterator, List, Optional, Sized

import torch
import torch.multiprocessing as multiprocessing
import torch.utils.data

from .._logging import logger
from ..tensors import structure
from ..tensors.structure import flatten, in_order_of, other_values, rebuild
from .shared_memory import AnonymousFile, bytes_needed, cut

START, FREE, RESET, STOP, LAYOUT, READY, END, FAILED = range(8)
ORPHAN_CHECK = 1.0  # seconds between looks at whether the parent still lives


@dataclass
class Job:
    """What a worker is started with; goes to it by fork or pickle."""

    dataset: Any
    """What is iterated, or the name of a file with its pickle."""
    in_file: bool
    slots: int
    rebatched_size: Optional[int]
    """Samples of one element made from several, or None: elements as they come."""
    keep_last: bool
    """Whether a last, smaller rebatched element is handed over."""
    load_indefinitely: bool
    early_preload: bool
    seed: int
    log_level: int
    parsers: Dict[type, structure.ICustomArgParser]
    start_method: str
    """How a loader starts workers of its own, as it would without this process."""


def serve(job: Job, file: AnonymousFile, link: Connection, parents: Optional[Connection]) -> None:
    """Run until the parent says STOP, or is gone.

    Args:
        link: this process's end of the pipe.
        parents: the other end, where a fork has copied it.
    """
    if parents is not None:
        parents.close()  # else this process would keep its own pipe from ending
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which says STOP
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    _seed(job.seed)
    logger.setLevel(job.log_level)
    structure.replace_parsers(job.parsers)
    multiprocessing.set_start_method(job.start_method, force=True)
    if job.start_method == "forkserver":
        preload_in_forkserver()
    try:
        if job.in_file:
            with open(job.dataset, "rb") as pickled:
                job.dataset = pickle.load(pickled)
        _Fetcher(job, file, link).run()
    except _ParentGone:
        pass
    except BaseException:
        _report(link, traceback.format_exc())
        sys.exit(1)


def preload_in_forkserver() -> None:
    """Let a forkserver that does not run yet import torch once for all its processes."""
    from multiprocessing import forkserver

    server = getattr(forkserver, "_forkserver", None)  # the one of this process
    running = getattr(server, "_forkserver_pid", None) is not None
    if not running and getattr(server, "_preload_modules", None) == ["__main__"]:
        forkserver.set_forkserver_preload(["__main__", __name__])


def _seed(seed: int) -> None:
    """Seed every generator, as torch does in its own workers."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")  # nobody draws from what is not loaded
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


class _ParentGone(Exception):
    """There is nobody to load for."""


class _Fetcher:
    """Loads pieces, writes them into slots, and does as the parent says.

    Of one generation `begun` iterations were asked for and `done` are loaded.
    """

    def __init__(self, job: Job, file: AnonymousFile, link: Connection) -> None:
        self._job = job
        self._link = link
        self._parent = os.getppid()
        self._generation = 0
        self._begun = 0
        self._done = 0
        self._stopped = False
        self._pieces: Optional[Iterator[Any]] = iterate(job.dataset)
        self._filled = 0  # samples in the slot being rebatched
        first = next(self._pieces, None)
        if first is None:
            raise ValueError("the dataset is empty")
        self._first: Any = structure.map_tensors(first, _on_meta)
        piece = _checked(first)
        self._piece = [tensor.to("meta") for tensor in piece]
        layout = [self._slot_like(tensor) for tensor in self._piece]
        size = bytes_needed(layout, job.slots)
        file.allocate(size)
        self._slots = cut(file.map(size), layout, job.slots)
        file.close()
        self._free = list(range(job.slots))
        skeleton = rebuild(self._first, iter(layout))
        self._send(LAYOUT, _pickled(skeleton), len(piece[0]) if piece[0].dim() else 1)
        self._put(piece)

    def run(self) -> None:
        """Load while there is room and an iteration to load for, until told to stop."""
        while not self._stopped:
            self._obey(wait=not self._may_load())
            if self._may_load() and not self._stopped:
                self._load()

    def _may_load(self) -> bool:
        ahead = self._job.load_indefinitely if self._begun else self._job.early_preload
        return bool(self._free) and self._done < self._begun + ahead

    def _load(self) -> None:
        """One piece, or the end of the iteration."""
        if self._pieces is None:
            self._pieces = iterate(self._job.dataset)
        try:
            element = next(self._pieces)
        except StopIteration:
            self._pieces = None
            if self._filled and self._job.keep_last:
                self._hand_over(self._filled)
            self._filled = 0
            self._done += 1
            self._send(END, self._generation)
            return
        if len(_checked(element)) != len(self._piece):
            raise ValueError(
                f"an element has {len(flatten(element))} tensors, the first one has"
                f" {len(self._piece)}"
            )
        self._put(flatten(in_order_of(self._first, element)))

    def _put(self, piece: List[torch.Tensor]) -> None:
        self._check_piece(piece)
        if self._job.rebatched_size is None:
            for slot, tensor in zip(self._slots[self._free[0]], piece):
                slot.copy_(tensor)
            self._hand_over(0)
            return
        taken, samples = 0, len(piece[0])
        while taken < samples and not self._stopped:
            generation = self._generation
            while not self._free and not self._stopped and generation == self._generation:
                self._obey(wait=True)
            if generation != self._generation or self._stopped:
                return  # the rest of the piece belongs to nothing any more
            count = min(self._job.rebatched_size - self._filled, samples - taken)
            for slot, tensor in zip(self._slots[self._free[0]], piece):
                slot[self._filled : self._filled + count].copy_(tensor[taken : taken + count])
            taken += count
            self._filled += count
            if self._filled == self._job.rebatched_size:
                self._hand_over(self._filled)
                self._filled = 0

    def _hand_over(self, count: int) -> None:
        self._send(READY, self._generation, self._free.pop(0), count)

    def _slot_like(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._job.rebatched_size is None:
            return tensor
        if tensor.dim() == 0:
            raise ValueError(
                f"rebatched_size={self._job.rebatched_size} joins samples along the first"
                " dimension, but the dataset yields a 0-d tensor"
            )
        return tensor.new_empty((self._job.rebatched_size, *tensor.shape[1:]))

    def _check_piece(self, piece: List[torch.Tensor]) -> None:
        """Raise ValueError unless the shapes and dtypes are the first element's."""
        rebatched = self._job.rebatched_size is not None
        for index, (first, tensor) in enumerate(zip(self._piece, piece)):
            same = (
                first.shape[1:] == tensor.shape[1:] and len(tensor) == len(piece[0])
                if rebatched and tensor.dim()
                else first.shape == tensor.shape
            )
            if not same or first.dtype != tensor.dtype:
                raise ValueError(
                    f"tensor {index} of an element has shape {tuple(tensor.shape)} and"
                    f" {tensor.dtype}, the first element's has {tuple(first.shape)} and"
                    f" {first.dtype}: an AsynchronousDataAccessor needs the same for all elements"
                    " (rebatched_size, or drop_last=True of the DataLoader, for a smaller last one)"
                )

    def _obey(self, wait: bool) -> None:
        """Take every message that is there; with `wait`, at least one."""
        while wait and not self._link_has_data():
            if os.getppid() != self._parent:
                raise _ParentGone
        while self._link_has_data(0):
            try:
                kind, value = self._link.recv()
            except (EOFError, OSError):
                raise _ParentGone from None
            if kind == START:
                self._begun += 1
            elif kind == FREE:
                self._free.append(value)
            elif kind == RESET:
                self._generation = value
                self._begun = self._done = self._filled = 0
                self._pieces = None
                self._free = list(range(self._job.slots))
            else:
                self._stopped = True
                self._pieces = None

    def _link_has_data(self, timeout: float = ORPHAN_CHECK) -> bool:
        try:
            return self._link.poll(timeout)
        except (EOFError, OSError):
            raise _ParentGone from None

    def _send(self, *message: Any) -> None:
        try:
            self._link.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise _ParentGone from None


def iterate(dataset: Any) -> Iterator[Any]:
    """The elements of anything iterable, or of a map-style dataset by index."""
    indexed = isinstance(dataset, torch.utils.data.Dataset) and not hasattr(dataset, "__iter__")
    if indexed and isinstance(dataset, Sized):
        return (dataset[index] for index in range(len(dataset)))  # type: ignore[index]
    return iter(dataset)


def _checked(element: object) -> List[torch.Tensor]:
    """The tensors of an element that consists of nothing else.

    Raises:
        AssertionError: it has other values, or no tensor at all.
    """
    others = other_values(element)
    assert not others, (
        f"{others[0]!r} of type {type(others[0]).__name__} in an element is not a torch tensor:"
        " an AsynchronousDataAccessor takes tensors, and lists, tuples and dicts of tensors"
    )
    tensors = flatten(element)
    assert tensors, "an element without tensors has no place in an AsynchronousDataAccessor"
    return tensors


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def _pickled(skeleton: object) -> bytes:
    buffer = io.BytesIO()
    pickle.dump(skeleton, buffer, protocol=4)
    return buffer.getvalue()


def _report(link: Connection, text: str) -> None:
    try:
        link.send((FAILED, text))
    except OSError:  # nobody listens
        sys.stderr.write(text)
