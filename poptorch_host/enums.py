"""PopTorch's enumerations, with the integer or text values its programs store and compare."""

from __future__ import annotations

import enum
from typing import Dict, Optional, Type


class _NamedInt(enum.IntEnum):
    """An IntEnum that prints as `OutputMode.All` on every Python (3.11 made it print as `2`)."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class OutputMode(_NamedInt):
    """Which of the micro-batches of one call are returned."""

    Final = 0
    """Per replica, the last micro-batch."""
    EveryN = 1
    """Every n-th micro-step."""
    All = 2
    """Every micro-batch, in order of the data."""
    Sum = 3
    """Per replica, the elementwise sum over all micro-batches."""
    Default = 4
    """All for inference, Final for training."""


class DataLoaderMode(_NamedInt):
    """How `DataLoader` overlaps loading with the model."""

    Sync = 0
    Async = 1
    AsyncRebatched = 2


class AutoStage(_NamedInt):
    """How a block without an explicit stage gets one."""

    SameAsIpu = 0
    """Stage number = the block's ipu_id."""
    AutoIncrement = 1
    """Each new block id takes the next stage number, from 1."""


class ReductionType(_NamedInt):
    """How losses, or gradients of accumulation steps and replicas, are reduced."""

    Sum = 0
    Mean = 1
    NoReduction = 2


class MeanReductionStrategy(_NamedInt):
    """When gradients are divided by the number of accumulated micro-batches."""

    Running = 0
    Post = 1
    PostAndLoss = 2
    """Deprecated; treated as Post."""


class SharingStrategy(_NamedInt):
    """How the asynchronous data accessor's worker is started and shares memory."""

    SharedMemory = 0
    FileSystem = 1
    Fork = 2
    ForkServer = 3


class ConnectionType(_NamedInt):
    """When the executor attaches to a device."""

    Always = 0
    OnDemand = 1
    Never = 2


class SyncPattern(_NamedInt):
    """How replicas and pipeline stages synchronise on hardware."""

    Full = 0
    SinglePipeline = 1
    ReplicaAndLadder = 2


class HalfFloatCastingBehavior(_NamedInt):
    """Deprecated: casting of operators that mix half and float."""

    FloatDowncastToHalf = 0
    HalfUpcastToFloat = 1
    Default = 2


class MatMulSerializationMode(enum.Enum):
    """Along which dimension `serializedMatMul` splits."""

    InputChannels = "input_channels"
    ReducingDim = "reducing_dim"
    OutputChannels = "output_channels"
    Disabled = "none"


class OverlapMode(enum.Enum):
    """With what the transfer of an input or output overlaps."""

    NoOverlap = "no_overlap"
    OverlapAccumulationLoop = "overlap_accumulation_loop"
    OverlapDeviceIterationLoop = "overlap_device_iteration_loop"


class Liveness(_NamedInt):
    """When a phased execution sends tensors off the chip."""

    AlwaysLive = 0
    OffChipAfterFwd = 1
    OffChipAfterFwdNoOverlap = 2
    OffChipAfterEachPhase = 3


class MultiConvPlanType(_NamedInt):
    """How the convolutions of a `MultiConv` run."""

    Parallel = 0
    Serial = 1


class CommGroupType(_NamedInt):
    """How replicas are grouped."""

    All = 0
    Consecutive = 1
    Orthogonal = 2
    NoGrouping = 3


class VariableRetrievalMode(_NamedInt):
    """Which replicas' values of a grouped parameter are read back."""

    OnePerGroup = 0
    AllReplicas = 2


ENUMERATIONS: Dict[str, Type[enum.Enum]] = {
    kind.__name__: kind
    for kind in (
        OutputMode,
        DataLoaderMode,
        AutoStage,
        ReductionType,
        MeanReductionStrategy,
        SharingStrategy,
        ConnectionType,
        SyncPattern,
        HalfFloatCastingBehavior,
        MatMulSerializationMode,
        OverlapMode,
        Liveness,
        MultiConvPlanType,
        CommGroupType,
        VariableRetrievalMode,
    )
}
"""Name -> class, for options that come from text."""


def enum_by_text(text: str) -> Optional[enum.Enum]:
    """The member that "EnumType.Value" names, or None when the text names no enumeration.

    Raises:
        ValueError: the enumeration exists but has no such member.
    """
    kind, _, member = text.partition(".")
    if kind not in ENUMERATIONS:
        return None
    members = ENUMERATIONS[kind].__members__
    if member not in members:
        raise ValueError(f"{text}: {kind} has the values {sorted(members)}, got {member!r}")
    return members[member]
