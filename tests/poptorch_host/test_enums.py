"""Enumerations have PopTorch's values and print as on PopTorch's Python."""

from __future__ import annotations

import enum

import pytest

import poptorch_host as poptorch
from poptorch_host.enums import ENUMERATIONS, enum_by_text

# 1.2, the whole list.
VALUES = {
    "OutputMode": {"Final": 0, "EveryN": 1, "All": 2, "Sum": 3, "Default": 4},
    "DataLoaderMode": {"Sync": 0, "Async": 1, "AsyncRebatched": 2},
    "AutoStage": {"SameAsIpu": 0, "AutoIncrement": 1},
    "ReductionType": {"Sum": 0, "Mean": 1, "NoReduction": 2},
    "MeanReductionStrategy": {"Running": 0, "Post": 1, "PostAndLoss": 2},
    "SharingStrategy": {"SharedMemory": 0, "FileSystem": 1, "Fork": 2, "ForkServer": 3},
    "ConnectionType": {"Always": 0, "OnDemand": 1, "Never": 2},
    "SyncPattern": {"Full": 0, "SinglePipeline": 1, "ReplicaAndLadder": 2},
    "HalfFloatCastingBehavior": {"FloatDowncastToHalf": 0, "HalfUpcastToFloat": 1, "Default": 2},
    "MatMulSerializationMode": {
        "InputChannels": "input_channels",
        "ReducingDim": "reducing_dim",
        "OutputChannels": "output_channels",
        "Disabled": "none",
    },
    "OverlapMode": {
        "NoOverlap": "no_overlap",
        "OverlapAccumulationLoop": "overlap_accumulation_loop",
        "OverlapDeviceIterationLoop": "overlap_device_iteration_loop",
    },
    "Liveness": {
        "AlwaysLive": 0,
        "OffChipAfterFwd": 1,
        "OffChipAfterFwdNoOverlap": 2,
        "OffChipAfterEachPhase": 3,
    },
    "MultiConvPlanType": {"Parallel": 0, "Serial": 1},
    "CommGroupType": {"All": 0, "Consecutive": 1, "Orthogonal": 2, "NoGrouping": 3},
    "VariableRetrievalMode": {"OnePerGroup": 0, "AllReplicas": 2},
}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_members_have_poptorch_values(name: str) -> None:
    kind = getattr(poptorch, name)
    assert {member.name: member.value for member in kind} == VALUES[name]


def test_no_enumeration_is_missing_or_extra() -> None:
    assert set(ENUMERATIONS) == set(VALUES)


def test_all_but_the_two_text_ones_are_integers() -> None:
    texts = {name for name, kind in ENUMERATIONS.items() if not issubclass(kind, enum.IntEnum)}
    assert texts == {"MatMulSerializationMode", "OverlapMode"}


def test_integer_members_print_by_name_on_every_python() -> None:
    assert str(poptorch.OutputMode.All) == "OutputMode.All"
    assert f"{poptorch.OutputMode.All}" == "OutputMode.All"


def test_text_names_a_member() -> None:
    assert enum_by_text("OutputMode.All") is poptorch.OutputMode.All
    assert enum_by_text("runs/fold.1") is None


def test_text_with_unknown_member_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"OutputMode.Al.*'All'.*got 'Al'"):
        enum_by_text("OutputMode.Al")
