"""Execution strategies: which stage, phase and IPU a block belongs to.

A stage is a set of block ids; a pipeline or a sharded model is a list of stages, a phased model a
list of phases, each with stages of its own.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from ..enums import AutoStage, Liveness

StageLike = Union["Stage", str, Sequence[str]]
PhaseLike = Union["Phase", "Stage", str, Sequence[Union["Stage", str, "Phase"]]]


class Stage:
    """Blocks that run one after the other on one IPU."""

    def __init__(self, *block_ids: str) -> None:
        for block_id in block_ids:
            assert isinstance(block_id, str), (
                f"Block IDs are supposed to be strings but got {block_ids}"
            )
        self._blocks = list(block_ids)
        self._ipu: Optional[int] = None

    @property
    def blocks(self) -> List[str]:
        """Ids of the blocks, in the given order."""
        return self._blocks

    @property
    def ipu_id(self) -> Optional[int]:
        """The IPU chosen with `ipu`, None if the blocks' own `ipu_id` decides."""
        return self._ipu

    def ipu(self, ipu: int) -> Stage:
        """Run this stage on that IPU."""
        assert isinstance(ipu, int), f"The ipu of a stage must be an int, got {type(ipu)}"
        self._ipu = ipu
        return self

    def __repr__(self) -> str:
        ids = ", ".join(map(repr, self._blocks))
        return f"Stage({ids})" + ("" if self._ipu is None else f".ipu({self._ipu})")


class Phase:
    """Stages of a phased execution that run before the next phase begins."""

    def __init__(self, *stages_or_ids: Union[Stage, str, Sequence[Union[Stage, str]]]) -> None:
        """Make a phase of stages, or of one stage with these blocks; also from one list."""
        if len(stages_or_ids) == 1 and isinstance(stages_or_ids[0], (list, tuple)):
            stages_or_ids = tuple(stages_or_ids[0])
        if stages_or_ids and all(isinstance(one, Stage) for one in stages_or_ids):
            self.stages = [one for one in stages_or_ids if isinstance(one, Stage)]
        else:
            self.stages = [Stage(*stages_or_ids)]  # type: ignore[arg-type]  # asserts str

    def stage(self, idx: int) -> Stage:
        """The stage at that position of the phase."""
        return self.stages[idx]

    def ipus(self, *ipus: int) -> Phase:
        """Give the stages of this phase their IPUs, in order."""
        assert len(ipus) == len(self.stages), (
            f"Phase.ipus needs one IPU per stage: expected {len(self.stages)}, got {len(ipus)}"
        )
        for stage, ipu in zip(self.stages, ipus):
            stage.ipu(ipu)
        return self

    def __repr__(self) -> str:
        return f"Phase({', '.join(map(repr, self.stages))})"


class ExecutionStrategy:
    """What all strategies share: the table from block id to stage."""

    def __init__(self) -> None:
        self._table: Dict[str, Tuple[Stage, int, int]] = {}

    @property
    def auto_stage(self) -> Optional[AutoStage]:
        """How stages are made on the fly, None when they are listed."""
        return None

    @property
    def block_ids(self) -> List[str]:
        """Every block id that is listed."""
        return list(self._table)

    def stage(self, block_id: str) -> Stage:
        """The stage that a listed block belongs to.

        Raises:
            AssertionError: no stage lists the block.
        """
        assert block_id in self._table, (
            f"Unknown block {block_id}, list of known blocks: {self.block_ids}"
        )
        return self._table[block_id][0]

    def position(self, block_id: str) -> Tuple[int, int]:
        """(stage number, phase number) of a listed block."""
        return self._table[block_id][1:]

    def backendOptions(self) -> Dict[str, Any]:
        """The keys that `Options.toDict` takes from the strategy."""
        raise NotImplementedError(f"{type(self).__name__} is no complete strategy")

    def _enter(self, stages: Iterable[Stage], phase: int = 0) -> None:
        for number, stage in enumerate(stages):
            for block_id in stage.blocks:
                assert block_id not in self._table, (
                    f"{block_id} associated with more than one stage"
                )
                self._table[block_id] = (stage, number, phase)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(blocks={self.block_ids})"


class _StagedExecution(ExecutionStrategy):
    """Stages in a row: from a list, or made on the fly."""

    def __init__(self, *args: Union[AutoStage, StageLike]) -> None:
        super().__init__()
        self._auto: Optional[AutoStage] = None
        if not args:
            self._auto = AutoStage.SameAsIpu
            return
        if isinstance(args[0], AutoStage):
            assert len(args) == 1, "poptorch.AutoStage must be the only argument of a strategy"
            self._auto = args[0]
            return
        stages: List[Stage] = []
        for position, arg in enumerate(args):
            if isinstance(arg, Stage):
                stages.append(arg)
            else:
                ids = (arg,) if isinstance(arg, str) else arg
                assert isinstance(ids, (list, tuple)), (
                    f"Block IDs are supposed to be strings but got {arg!r}"
                )
                stages.append(Stage(*ids).ipu(position))
        self._enter(stages)

    @property
    def auto_stage(self) -> Optional[AutoStage]:
        return self._auto

    def __repr__(self) -> str:
        if self._auto is not None:
            return f"{type(self).__name__}({self._auto})"
        return super().__repr__()


class PipelinedExecution(_StagedExecution):
    """Stages work at the same time on different micro-batches.

    Args:
        args: nothing (`AutoStage.SameAsIpu`), one `AutoStage`, or stages; a block id or a list of
            ids stands for a stage on the IPU of its position.
    """

    def backendOptions(self) -> Dict[str, Any]:
        return {"execution_mode": 0}


class ShardedExecution(_StagedExecution):
    """Stages work one after the other; arguments as `PipelinedExecution`."""

    def backendOptions(self) -> Dict[str, Any]:
        return {"execution_mode": 1}


class _PhasedExecution(ExecutionStrategy):
    """Phases in a row, each with its stages."""

    def __init__(self, *phases: PhaseLike) -> None:
        super().__init__()
        assert phases and not isinstance(phases[0], AutoStage), (
            f"There is no AutoStage for {type(self).__name__}: list the phases"
        )
        self._phases: List[Phase] = []
        for phase in phases:
            if isinstance(phase, Phase):
                self._phases.append(phase)
            elif isinstance(phase, (Stage, str)):
                self._phases.append(Phase(phase))
            else:
                self._extend(phase)
        for number, entry in enumerate(self._phases):
            self._enter(entry.stages, number)
        self._liveness = Liveness.AlwaysLive
        self._separate_backward = False

    def _extend(self, listed: Sequence[Union[Stage, str, Phase]]) -> None:
        """Take a list of phases, as the user guide writes them, or one of a phase's stages."""
        phases = [one for one in listed if isinstance(one, Phase)]
        stages = [one for one in listed if not isinstance(one, Phase)]
        self._phases.extend(phases)
        if stages or not phases:
            self._phases.append(Phase(*stages))

    def phase(self, phase: int) -> Phase:
        """The phase with that number."""
        assert isinstance(phase, int) and 0 <= phase < len(self._phases), (
            f"Invalid phase {phase!r}: there are {len(self._phases)} phases, counted from 0"
        )
        return self._phases[phase]

    def backendOptions(self) -> Dict[str, Any]:
        return {
            "execution_mode": 2,
            "separate_backward_phase": self._separate_backward,
            "tensors_liveness": self._liveness.value,
        }


class SerialPhasedExecution(_PhasedExecution):
    """Phases run one after the other."""

    def setTensorsLiveness(self, liveness: Liveness) -> SerialPhasedExecution:
        """When tensors leave the chip."""
        assert isinstance(liveness, Liveness), (
            f"setTensorsLiveness expects a poptorch.Liveness, got {type(liveness)}"
        )
        self._liveness = liveness
        return self

    def useSeparateBackwardPhase(self, use: bool = True) -> SerialPhasedExecution:
        """Number the backward phases apart from the forward ones."""
        assert isinstance(use, bool), f"useSeparateBackwardPhase expects a bool, got {type(use)}"
        self._separate_backward = use
        return self

    def backendOptions(self) -> Dict[str, Any]:
        return {**super().backendOptions(), "serial_phases_execution": True}


class ParallelPhasedExecution(_PhasedExecution):
    """Phases alternate between two groups of IPUs."""

    def sendTensorsOffChipAfterFwd(self, off_chip: bool = True) -> ParallelPhasedExecution:
        """Send activations off the chip between forward and backward."""
        assert isinstance(off_chip, bool), (
            f"sendTensorsOffChipAfterFwd expects a bool, got {type(off_chip)}"
        )
        self._liveness = Liveness.OffChipAfterFwd if off_chip else Liveness.AlwaysLive
        return self

    def backendOptions(self) -> Dict[str, Any]:
        return {**super().backendOptions(), "serial_phases_execution": False}
