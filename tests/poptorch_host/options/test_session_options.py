"""`_Popart.set` takes any key; a compile knows PopART's session options and their kinds (1.3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import popart
from poptorch_host.options.session_options import KINDS


def compiled(options: poptorch.Options) -> poptorch.PoplarExecutor:
    executor = poptorch.inferenceModel(nn.ReLU(), options)
    executor.compile(torch.ones(1))
    return executor


# what graphcore/examples set most often, with the types they use
TAKEN = [
    ("disableGradAccumulationTensorStreams", True),
    ("scheduleNonWeightUpdateGradientConsumersEarly", True),
    ("engineOptions", {"target.syncReplicasIndependently": "true"}),
    (
        "accumulateOuterFragmentSettings.schedule",
        popart.AccumulateOuterFragmentSchedule.OverlapMemoryOptimized,
    ),
    ("accumulateOuterFragmentSettings.excludedVirtualGraphs", ["0"]),
    ("disableOptimizerStateTensorStreams", True),
    ("groupNormStridedChannelGrouping", True),
    ("explicitRecomputation", True),
    ("enableExplicitIR", True),
    ("outlineThreshold", 10.0),
    ("autoRecomputation", int(popart.RecomputationType.Pipeline)),
    ("subgraphCopyingStrategy", int(popart.SubgraphCopyingStrategy.JustInTime)),
    ("saveInitializersToFile", "weights.onnx"),
    ("replicatedCollectivesSettings.prepareScheduleForMergingCollectives", True),
    ("replicatedCollectivesSettings.mergeAllReduceCollectives", True),
    ("defaultPrefetchBufferingDepth", 3),
    ("partialsTypeMatMuls", "half"),
    ("decomposeGradSum", True),
    ("convolutionOptions", {"partialsType": "half"}),
    ("enableStableNorm", True),
    ("enableFloatingPointChecks", False),
    ("enableOutlining", True),
    ("enableGradientAccumulation", True),
    ("hardwareInstrumentations", {0, 1}),
    ("dotChecks", ["Final"]),
    ("timeLimitScheduler", 1.5),
    ("batchSerializationSettings.factor", 2),
]


@pytest.mark.parametrize(("key", "value"), TAKEN)
def test_session_options_of_the_examples_compile(
    options: poptorch.Options, key: str, value: Any
) -> None:
    options._Popart.set(key, value)
    assert compiled(options).options._Popart.options[key] == value


REFUSED = [
    ("enableOutlineing", True, "Unknown bool option enableOutlineing"),
    ("outlineThreshold", 10, "Unknown uint64 option outlineThreshold: .*floating point"),
    ("autoRecomputation", True, "Unknown bool option autoRecomputation"),
    ("engineOption", {"a": "b"}, "Unknown map option engineOption"),
    ("customCodelet", ["a"], "Unknown set / vector option customCodelet"),
    ("cachePaths", "a", "Unknown string option cachePaths"),
    ("enableOutlining", 0.5, "Unknown floating point option enableOutlining: .*bool"),
    ("enableOutlining", None, "Unknown value type .*NoneType.* for option enableOutlining"),
    ("dotChecks", ("Final",), "Unknown value type .*tuple.* for option dotChecks"),
    ("autoRecomputation", 9, "Value for RecomputationType out of range"),
    ("firstDotOp", -1, "option firstDotOp out of range"),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED)
def test_unknown_keys_and_kinds_are_refused_at_compile(
    options: poptorch.Options, key: str, value: Any, words: str
) -> None:
    options._Popart.set(key, value)  # 1.3: not checked when set
    with pytest.raises(poptorch.Error, match=words):
        compiled(options)


def test_a_session_option_has_one_kind() -> None:
    alone = [keys for kind, keys in KINDS.items() if kind not in ("map", "set / vector")]
    alone.append(KINDS["map"] | KINDS["set / vector"])
    assert len(frozenset().union(*alone)) == sum(len(keys) for keys in alone)


def test_levels_of_patterns_are_checked_at_compile(options: poptorch.Options) -> None:
    for level in range(4):
        made = options.clone()
        made._Popart.setPatterns({"TiedGather": False}, level)
        compiled(made)
    options._Popart.setPatterns({}, 4)
    with pytest.raises(poptorch.Error, match=r"level must be one of \[0, 1, 2, 3\].*got 4"):
        compiled(options)


def test_poptorch_s_own_options_are_not_set_through_popart(options: poptorch.Options) -> None:
    for key in ("replication_factor", "meanAccumulationAndReplicationReductionStrategy"):
        made = options.clone()
        made._Popart.set(key, 2)
        with pytest.raises(AssertionError, match=rf"in common: \['{key}'\]"):
            compiled(made)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("accumulationFactor", 4, r"options\.Training\.gradientAccumulation"),
        ("compileEngine", False, "useOfflineIpuTarget"),
        ("accumulationAndReplicationReductionType", 0, "Training.accumulationAndReplication"),
        ("accumulationReductionType", 0, "Training.accumulationAndReplication"),
    ],
)
def test_keys_that_ask_for_other_results_are_refused(
    options: poptorch.Options, key: str, value: Any, instead: str
) -> None:
    options._Popart.set(key, value)
    with pytest.raises(poptorch.Error, match=f"{key}.* is refused.*{instead}"):
        compiled(options)


def test_keys_that_agree_with_the_other_options_pass(options: poptorch.Options) -> None:
    options._Popart.set("accumulationFactor", 1).set("compileEngine", True)
    assert compiled(options).isCompiled()


def test_synthetic_data_may_be_asked_for_in_popart_s_words(options: poptorch.Options) -> None:
    # graphcore/examples' --data synthetic
    assert not options.enable_synthetic_data
    options._Popart.set("syntheticDataMode", int(popart.SyntheticDataMode.RandomNormal))
    assert options.enable_synthetic_data
    assert poptorch.inferenceModel(nn.Identity(), options)(torch.ones(2)).tolist() == [0, 0]
