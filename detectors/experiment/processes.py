"""The processes that run one command together, as `torchrun --nproc-per-node 4` or poprun starts
them: who this one is, and how all come to know one thing.

Each runs the whole program; the first (rank 0) speaks and writes.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Protocol, TypeVar, cast

from detectors.experiment.interrupts import Interrupts, Terminated
from detectors.experiment.meeting_point import LONGEST, SHORTEST, MeetingPoint, reach

__all__ = ["OtherFailedError", "Processes"]

VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # poprun
)
PATIENCE = 20.0  # seconds that a process which was told to stop waits for the others
TO_BE_SHOWN = 5.0  # seconds in which the first process may say for another what went wrong
TO_END = 5.0  # seconds in which the others may end by themselves after a failure

T = TypeVar("T")
R = TypeVar("R")


class OtherFailedError(Exception):
    """Another process failed; this one ends with it."""

    def __init__(self, rank: int, exit_code: int, text: str) -> None:
        super().__init__(signed(text, rank))
        self.exit_code = exit_code
        self.shown = False
        """Whether it has been on the screen."""


class TheirError(Exception):
    """Where the other process failed: the cause of `OtherFailedError`, for logs."""


class Watch(Protocol):
    """Whatever finds processes that are lost and ends the others, wherever they are."""

    def is_consequence(self, error: BaseException) -> bool:
        """Whether an error says that another process has gone, not what is wrong in this one."""

    def report(self, error: BaseException) -> None:
        """End the others because of this error; or wait for the end that another's has brought."""


@dataclass(frozen=True)
class Failure:
    """What a process leaves instead of a value."""

    rank: int
    exit_code: int
    text: str
    trace: str

    def error(self, shown: bool) -> OtherFailedError:
        error = OtherFailedError(self.rank, self.exit_code, self.text)
        error.__cause__ = TheirError(f"\n{self.trace}")
        error.shown = shown
        return error


class Processes:
    """This process among those that run the command; alone where no launcher started it.

        with Processes.of_environment().open() as processes:
            folder = processes.from_first(make_folder)

    All of them call `agree` and `from_first` in the same order.

    Args:
        rank: of this process, from 0.
        size: how many there are.
        local_rank: among those on this machine.
        point: where they meet; None = where the environment says, on first use.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        point: Optional[MeetingPoint] = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.interrupts = Interrupts(launched=size > 1, announce=rank == 0)
        """Signals to this process, while it is open."""
        self.watch: Optional[Watch] = None
        """Set where processes wait for each other elsewhere than in `agree`."""
        self._point = point
        self._round = 0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Processes:
        """The one that torchrun's variables, or those of poprun and mpirun, describe."""
        for rank, size, local_rank in VARIABLES:
            if int(environment.get(size, 1)) > 1 and rank in environment:
                return cls(
                    int(environment[rank]), int(environment[size]), int(environment[local_rank])
                )
        return cls()

    @property
    def first(self) -> bool:
        """Whether this one speaks and writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def open(self, unit: str = "batch", *, own: bool = False) -> Iterator[Processes]:
        """While open, signals are heard and only the first process prints.

        Args:
            unit: as `Interrupts` takes it.
            own: likewise.
        """
        self.interrupts.unit, self.interrupts.own = unit, own
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.interrupts)
            if not self.first:
                silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            try:
                yield self
            finally:
                if self._point is not None:
                    with contextlib.suppress(RuntimeError, ValueError):  # nobody is left
                        self._point.leave(self.rank, self.size)

    @property
    def point(self) -> MeetingPoint:
        """Where the processes meet; raises as `reach` does."""
        if self._point is None:
            self._point = reach(self.rank, self.size)
        return self._point

    def signed(self, text: str) -> str:
        """`rank 2: text`, or the text alone in the first process."""
        return signed(text, self.rank)

    def agree(self, value: T, decide: Callable[[List[T]], R]) -> R:
        """What the first process makes of everybody's values, in all of them.

        Args:
            value: this process's.
            decide: called in the first process with the values by rank.

        Raises:
            OtherFailedError: one of the others will not come.
        """
        if self.size == 1:
            return decide([value])
        number = self._round
        if self.first:
            result = decide(self._collect(number, value))
            self.point.put(f"{number}/reply", result)
        else:
            self.point.put(f"{number}/{self.rank}", value)
            result = cast(R, self._take(f"{number}/reply"))
        self._round += 1
        return result

    def from_first(self, make: Callable[[], R]) -> R:
        """What `make` returns in the first process, in all of them."""
        return self.agree(None, lambda values: make())

    def tell(self, exit_code: int, text: str, *, trace: str = "", wait: bool = True) -> bool:
        """Let the others know that this one failed, and will not come to `agree` any more.

        Args:
            exit_code: of this process, and of the others.
            text: for people.
            trace: for logs.
            wait: some seconds for the first process to show it.

        Returns:
            Whether the first process shows it, for this one or as its own.
        """
        if self.size == 1:
            return False
        failure = Failure(self.rank, exit_code, text, trace)
        try:
            if self.first:
                self.point.put(f"{self._round}/reply", failure)
                return False
            for number in (self._round, self._round + 1):  # it may have come to this one already
                self.point.put(f"{number}/{self.rank}", failure)
            if wait and self._hears_failure(time.monotonic() + TO_BE_SHOWN):
                return True
            return not self.point.claim(f"shown/{self.rank}")
        except (RuntimeError, ValueError):  # nobody is left to be told
            pass
        return False

    def part(self, error: Exception, *, heard: bool = True) -> None:
        """Leave after a failure; others that do not end by themselves are ended by the watch.

        Args:
            error: of this process, or what it was told.
            heard: whether the first process knows of it, and sees to the others.
        """
        if self.size == 1 or self.watch is None:
            return
        others = [rank for rank in range(self.size) if rank != self.rank]
        with contextlib.suppress(RuntimeError, ValueError):
            self.point.put(f"ended/{self.rank}", True)
            deadline = time.monotonic() + TO_END
            while self.first and time.monotonic() < deadline:
                if all(self.point.has(f"ended/{rank}") for rank in others):
                    return
                time.sleep(LONGEST)
        if self.first or not heard:
            self.watch.report(error)

    def await_cause(self, error: Exception) -> None:
        """Where an error only says that another process has gone: wait until that one is named,
        which ends this one.
        """
        if self.watch is not None and self.watch.is_consequence(error):
            with self.interrupts.ignored():  # a launcher's, who has noticed too
                self.watch.report(error)

    def _hears_failure(self, deadline: float) -> bool:
        keys = [f"{number}/reply" for number in (self._round, self._round + 1)]
        while time.monotonic() < deadline:
            for key in keys:
                if self.point.has(key) and isinstance(self.point.get(key), Failure):
                    return True
            time.sleep(LONGEST)
        return False

    def _collect(self, number: int, own: Any) -> List[Any]:
        """Everybody's values; one that failed is enough to stop."""
        found: Dict[int, Any] = {0: own}
        for _ in self._looks():
            for rank in range(1, self.size):
                key = f"{number}/{rank}"
                if rank in found or not self.point.has(key):
                    continue
                found[rank] = self.point.get(key)
                self.point.forget(key)
                if isinstance(found[rank], Failure):
                    self.point.put(f"{number}/reply", found[rank])
                    raise found[rank].error(shown=not self.point.claim(f"shown/{rank}"))
            if len(found) == self.size:
                break
        if number:  # everybody is here, so everybody has read it
            self.point.forget(f"{number - 1}/reply")
        return [found[rank] for rank in range(self.size)]

    def _take(self, key: str) -> Any:
        for _ in self._looks():
            if self.point.has(key):
                break
        value = self.point.get(key)
        if isinstance(value, Failure):
            raise value.error(shown=True)  # by the first process
        return value

    def _looks(self) -> Iterator[None]:
        """Times to look: farther apart each time, and not for ever once this process is told to
        stop.
        """
        pause, stop_at = SHORTEST, None
        while True:
            yield
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
            number = self.interrupts.requested
            if number is not None:
                stop_at = stop_at or time.monotonic() + PATIENCE
                if time.monotonic() > stop_at:
                    raise Terminated(number)


def signed(text: str, rank: int) -> str:
    """A text with who says it, if that is not the first process."""
    return f"rank {rank}: {text}" if rank else text
