"""The enumerations of PopART that PopTorch programs hand to `options._Popart.set`.

There is no PopART here: these are the names and numbers that `python -m poptorch_host` gives to a
program that says `import popart`, and nothing that builds or runs a graph.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, NoReturn

from .enums import MeanReductionStrategy, ReductionType, SyncPattern, VariableRetrievalMode

__all__ = [
    "AccumulateOuterFragmentSchedule",
    "AutodiffStitchStrategy",
    "BatchSerializationBatchSchedule",
    "BatchSerializationMethod",
    "BatchSerializationTransformContext",
    "CommGroup",
    "CommGroupType",
    "DeviceConnectionType",
    "DotCheck",
    "ExecutionPhaseIOSchedule",
    "ExecutionPhaseSchedule",
    "Instrumentation",
    "MeanReductionStrategy",
    "MergeVarUpdateType",
    "PatternsLevel",
    "RecomputationType",
    "ReductionType",
    "ReplicatedCollectivesSettings",
    "ReplicatedTensorSharding",
    "SubgraphCopyingStrategy",
    "SyncPattern",
    "SyntheticDataMode",
    "TensorStorage",
    "TileSet",
    "VariableRetrievalMode",
    "VirtualGraphMode",
]


class AccumulateOuterFragmentSchedule(enum.IntEnum):
    """How weight updates of several stages are ordered."""

    Scheduler = 0
    Serial = 1
    OverlapCycleOptimized = 2
    OverlapMemoryOptimized = 3


class AutodiffStitchStrategy(enum.IntEnum):
    """How a backward graph gets values of its forward graph."""

    RecomputeMinimal = 0
    RecomputeAllNonInputs = 1
    AddFwdOutputs = 2
    SafeAddFwdOutputs = 3


class BatchSerializationBatchSchedule(enum.IntEnum):
    """Order of the parts of a batch."""

    Scheduler = 0
    Isomorphic = 1
    OverlapOnIo = 2
    OverlapOnCompute = 3


class BatchSerializationMethod(enum.IntEnum):
    """How a batch is cut into parts."""

    UnrollDynamic = 0
    UnrollStatic = 1
    Loop = 2


class BatchSerializationTransformContext(enum.IntEnum):
    """When a batch is cut into parts."""

    Fwd = 0
    Bwd = 1
    Forward = 0
    Backward = 1


class CommGroupType(enum.IntEnum):
    """How replicas are grouped."""

    All = 0
    Consecutive = 1
    Orthogonal = 2
    Ungrouped = 3


class CommGroup(NamedTuple):
    """Replicas that exchange tensors."""

    type: CommGroupType = CommGroupType.All
    replicaGroupSize: int = 0


class DeviceConnectionType(enum.IntEnum):
    """When a device is attached."""

    Always = 0
    OnDemand = 1
    Never = 2


class DotCheck(enum.IntEnum):
    """When a graph is drawn; `dotChecks` takes the names."""

    Fwd0 = 0
    Fwd1 = 1
    Bwd0 = 2
    PreAlias = 3
    Final = 4


class ExecutionPhaseIOSchedule(enum.IntEnum):
    """When tensors of a phase are loaded."""

    Preload = 0
    OnDemand = 1


class ExecutionPhaseSchedule(enum.IntEnum):
    """Order of weight updates within a phase."""

    Interleaving = 0
    Batch = 1
    BatchClusteredIO = 2


class Instrumentation(enum.IntEnum):
    """Which loop is measured."""

    Outer = 0
    Inner = 1


class MergeVarUpdateType(enum.IntEnum):
    """Which weight updates are merged."""

    Off = 0
    All = 1
    AutoLoose = 2
    AutoTight = 3


class PatternsLevel(enum.IntEnum):
    """Which graph patterns are on before single ones are switched."""

    NoPatterns = 0
    Minimal = 1
    Default = 2
    All = 3


class RecomputationType(enum.IntEnum):
    """What the backward pass computes again."""

    NoRecompute = 0
    Standard = 1
    NormOnly = 2
    Pipeline = 3
    RecomputeAll = 4


class ReplicatedCollectivesSettings(NamedTuple):
    """Which exchanges between replicas are merged; `_Popart.set` takes each by its dotted name."""

    prepareScheduleForMergingCollectives: bool = False
    mergeAllReduceCollectives: bool = False
    mergeReduceScatterCollectives: bool = False
    mergeAllGatherCollectives: bool = False


class ReplicatedTensorSharding(enum.IntEnum):
    """Whether each replica keeps a part of a tensor only."""

    Off = 0
    On = 1


class SubgraphCopyingStrategy(enum.IntEnum):
    """When inputs of a subgraph are copied."""

    OnEnterAndExit = 0
    JustInTime = 1


class SyntheticDataMode(enum.IntEnum):
    """What stands for inputs when none are transferred."""

    Off = 0
    Zeros = 1
    RandomNormal = 2
    RandomUniform = 3


class TensorStorage(enum.IntEnum):
    """Where a tensor lives."""

    OffChip = 0
    OnChip = 1


class TileSet(enum.IntEnum):
    """Which tiles load or store a tensor."""

    Compute = 0
    IO = 1


class VirtualGraphMode(enum.IntEnum):
    """How operators get their IPU."""

    Off = 0
    Manual = 1
    Auto = 2
    ExecutionPhases = 3


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"module 'popart' has no attribute {name!r}: poptorch_host has PopART's enumerations"
        " for options._Popart.set only, no builder, no session and no device"
    )
