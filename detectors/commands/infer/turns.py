"""Images over several processes: which takes which, and what they find in the order of the input.

Everybody does a batch and tells the first process, which writes; one process alone does the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Union

from data.formats import Classes, ImageDetections
from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.batches import NOTHING, ImageBatch, Unreadable
from detectors.commands.infer.results import Results
from detectors.experiment.console import Progress
from detectors.experiment.interrupts import Interrupts
from detectors.experiment.processes import Processes
from detectors.experiment.run_log import run_log

__all__ = ["Collector", "Turn", "Verdict", "share", "turn_of"]

Found = Union[ImageDetections, Unreadable]
"""What becomes of an image."""


class Turn(NamedTuple):
    """What a process has done since it was last asked."""

    done: Mapping[int, Found]
    """By the image's index; empty where nothing was left to do."""
    finished: bool
    """Whether that was the last of it."""
    exit_code: int
    """Of the signal that it was told to stop by; 0 if none."""
    note: str = ""
    """For the progress line."""


class Verdict(NamedTuple):
    """What follows from everybody's turns."""

    go_on: bool
    """Whether there is another turn."""
    exit_code: int
    """Of a signal that ends the run; 0 if none."""


def share(todo: Sequence[int], block: int, processes: Processes) -> List[int]:
    """The part of this process: each takes whole blocks in rotation, so that a batch is made of the
    same images however many processes there are.

    Args:
        todo: indices of images.
        block: images of a batch.
        processes: among whom.
    """
    starts = range(processes.rank * block, len(todo), processes.size * block)
    return [index for start in starts for index in todo[start : start + block]]


def turn_of(
    batch: ImageBatch, found: Sequence[ImageDetections], exit_code: int, note: str = ""
) -> Turn:
    """The turn in which a batch was done.

    Args:
        batch: `NOTHING` where none was left.
        found: in its images.
        exit_code: of the signal that came meanwhile; 0 if none.
        note: for the progress line.
    """
    done: Dict[int, Found] = {bad.index: bad for bad in batch.unreadable}
    done.update((item.index, image) for item, image in zip(batch.items, found))
    return Turn(done, batch is NOTHING, exit_code, note)


class Collector:
    """Writes what all processes find, in the first of them.

    An image that comes before its turn waits: no more do than the processes are apart.

    Args:
        folder: of the run.
        args: the command line.
        classes: of the detector.
        header: for the formats that have one.
        names: of all images, by index.
        todo: the images to write, in this order; what comes of others, or again, is left out.
        interrupts: of this process; one that comes while it writes ends the run too.
    """

    def __init__(
        self,
        folder: Path,
        args: Arguments,
        classes: Classes,
        header: Mapping[str, Any],
        names: Sequence[str],
        todo: Sequence[int],
        interrupts: Interrupts,
    ) -> None:
        self.folder = folder
        self.args = args
        self.classes = classes
        self.header = header
        self.names = names
        self.todo = todo
        self.interrupts = interrupts
        self.results: Results
        """What was written; in the first process, from `opened` on."""
        self._place = 0
        self._left: Set[int] = set(todo)
        self._waiting: Dict[int, Found] = {}

    @contextmanager
    def opened(self, earlier: Sequence[ImageDetections], *, first: bool = True) -> Iterator[None]:
        """While open, `take` can write; whatever happens, the files are valid at the end.

        Args:
            earlier: what a stopped run has found.
            first: whether this is the first process; the others open nothing.
        """
        if not first:
            yield
            return
        passes = self.args.repeat or 1
        with run_log(self.folder), Results(
            self.folder, self.args, self.classes, self.header
        ) as self.results, Progress(
            len(self.todo) * passes, quiet=self.args.quiet
        ) as self.progress:
            for image in earlier:
                self.results.add(image)
            yield

    def take(self, turns: List[Turn]) -> Verdict:
        """Write what is next; called in the first process with everybody's turns."""
        for turn in turns:
            for index in self._left.intersection(turn.done):
                self._left.remove(index)
                self._waiting[index] = turn.done[index]
        while self._place < len(self.todo) and self.todo[self._place] in self._waiting:
            index = self.todo[self._place]
            self._write(index, self._waiting.pop(index))
            self._place += 1
        self.progress.advance(sum(len(turn.done) for turn in turns), turns[0].note)
        code = max(self.interrupts.exit_code, *(turn.exit_code for turn in turns))
        finished = all(turn.finished for turn in turns)
        self.results.complete = finished and not code
        return Verdict(not finished and not code, code)

    def _write(self, index: int, found: Found) -> None:
        if isinstance(found, Unreadable):
            self.results.skip(self.names[index], found.reason)
        else:
            self.results.add(found)
