"""Where an operator of a captured `forward` runs: follows blocks as they begin and end."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

from ..enums import AutoStage
from ..errors import createPoptorchError
from .strategies import ExecutionStrategy


class Placement(NamedTuple):
    """One block, as a strategy places it."""

    block_id: Optional[str]
    """The user's id or the automatic one; None before the first block."""
    stage: int
    """Number of the stage; within its phase for a phased execution."""
    phase: int
    """Number of the phase; 0 for pipelined and sharded execution."""
    ipu: int
    """IPU within one replica."""


class StageResolver:
    """The current placement during one capture of one model.

    What runs before the first block is on stage 0 and IPU 0. Leaving a `with Block`, also an inner
    one, leaves no active block.
    """

    def __init__(self, strategy: ExecutionStrategy) -> None:
        self._strategy = strategy
        self._next_auto_id = 0
        self._made: Dict[str, int] = {}
        self._current: Optional[Placement] = Placement(None, 0, 0, 0)
        self.placements: List[Placement] = [Placement(None, 0, 0, 0)]
        """Everything entered so far, in order, starting with what runs before the first block."""

    @property
    def active(self) -> Optional[Placement]:
        """The current placement; None after a `with Block` closed and before the next begins."""
        return self._current

    def current(self) -> Placement:
        """The current placement.

        Raises:
            poptorch.Error: no block is active.
        """
        if self._current is None:
            raise createPoptorchError(
                "No active Block, all the ops must belong to a Block."
                " An operator runs after a `with poptorch.Block` has closed: put it into a block,"
                " or begin blocks with poptorch.BeginBlock, which stay open until the next one."
            )
        return self._current

    def use_auto_id(self) -> None:
        """Restart automatic ids at "0"."""
        self._next_auto_id = 0

    def next_auto_id(self) -> str:
        """The next automatic id: "0", "1", ..."""
        self._next_auto_id += 1
        return str(self._next_auto_id - 1)

    def begin(self, user_id: Optional[str], ipu_id: Optional[int]) -> Placement:
        """Enter a block; returns where it runs.

        Raises:
            AssertionError: the strategy does not list the block, or cannot place it.
        """
        block_id = self.next_auto_id() if user_id is None else user_id
        auto = self._strategy.auto_stage
        if auto is None:
            known = self._strategy.block_ids
            assert block_id in known, f"Unknown Block '{block_id}' list of expected Blocks: {known}"
            number, phase = self._strategy.position(block_id)
            chosen = self._strategy.stage(block_id).ipu_id
        else:
            number, phase, chosen = self._auto_stage(auto, block_id, ipu_id), 0, None
        ipu = chosen if chosen is not None else ipu_id if ipu_id is not None else number
        self._current = Placement(block_id, number, phase, ipu)
        self.placements.append(self._current)
        return self._current

    def end(self) -> None:
        """Leave the block that a `with` statement entered."""
        self._current = None

    def _auto_stage(self, auto: AutoStage, block_id: str, ipu_id: Optional[int]) -> int:
        if block_id in self._made:
            return self._made[block_id]
        if auto is AutoStage.SameAsIpu:
            assert ipu_id is not None, (
                "poptorch.AutoStage.SameAsIpu was selected but no IPU was specified for block"
                f" {block_id}"
            )
            number = ipu_id
        else:
            number = len(self._made) + 1  # 0 is what runs before the first block
        self._made[block_id] = number
        return number


def pipeline_stages(placements: List[Placement]) -> int:
    """Forward stages as a pipeline counts them: changes of IPU between blocks in a row, plus 1.

    `placements` as the resolver collects them, so a first block on an IPU other than 0 counts.
    """
    changes = zip(placements, placements[1:])
    return 1 + sum(before.ipu != after.ipu for before, after in changes)
