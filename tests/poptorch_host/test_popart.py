"""The enumerations of `popart` that programs hand to `_Popart.set` (1.3)."""

from __future__ import annotations

import pytest

from poptorch_host import popart

# PopART's numbers, as PopTorch programs of graphcore/examples pass them
VALUES = {
    "AccumulateOuterFragmentSchedule.OverlapMemoryOptimized": 3,
    "AccumulateOuterFragmentSchedule.OverlapCycleOptimized": 2,
    "AutodiffStitchStrategy.RecomputeAllNonInputs": 1,
    "BatchSerializationBatchSchedule.OverlapOnIo": 2,
    "BatchSerializationMethod.Loop": 2,
    "BatchSerializationTransformContext.Backward": 1,
    "CommGroupType.Orthogonal": 2,
    "CommGroupType.Ungrouped": 3,
    "DeviceConnectionType.Never": 2,
    "Instrumentation.Inner": 1,
    "MergeVarUpdateType.AutoLoose": 2,
    "PatternsLevel.All": 3,
    "RecomputationType.NoRecompute": 0,
    "RecomputationType.Standard": 1,
    "RecomputationType.Pipeline": 3,
    "RecomputationType.RecomputeAll": 4,
    "ReductionType.Mean": 1,
    "MeanReductionStrategy.Post": 1,
    "ReplicatedTensorSharding.On": 1,
    "SubgraphCopyingStrategy.JustInTime": 1,
    "SyncPattern.ReplicaAndLadder": 2,
    "SyntheticDataMode.RandomNormal": 2,
    "TensorStorage.OnChip": 1,
    "TileSet.IO": 1,
    "VariableRetrievalMode.AllReplicas": 2,
    "VirtualGraphMode.Manual": 1,
}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_members_have_popart_s_numbers(name: str) -> None:
    kind, _, member = name.partition(".")
    assert int(getattr(popart, kind)[member]) == VALUES[name]


def test_settings_have_popart_s_fields() -> None:
    assert popart.CommGroup(popart.CommGroupType.Consecutive, 4).replicaGroupSize == 4
    assert not popart.ReplicatedCollectivesSettings().mergeAllReduceCollectives


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"'Builder': poptorch_host has PopART's enumerations"):
        popart.Builder  # noqa: B018  # the mistake under test
