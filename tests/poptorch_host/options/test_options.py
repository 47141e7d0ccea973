"""Options keep what PopTorch keeps and refuse what it refuses (1.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch

import poptorch_host as poptorch

# ---- 1.3: values -------------------------------------------------------------------------------


def test_defaults_are_poptorch_defaults(options: poptorch.Options) -> None:
    expected = {
        "replication_factor": 1,
        "input_group_size": 1,
        "input_cgt": poptorch.CommGroupType.Consecutive,
        "broadcast_buffers": True,
        "device_iterations": 1,
        "log_dir": ".",
        "max_repeat_logs": 4,
        "auto_round_num_ipus": False,
        "anchored_tensors": {},
        "output_mode": poptorch.OutputMode.Default,
        "output_return_period": 1,
        "connection_type": 0,
        "sync_pattern": 0,
        "available_memory_proportion": {},
    }
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.Training.gradient_accumulation == 1
    mean = poptorch.ReductionType.Mean
    assert options.Training.accumulation_and_replication_reduction_type is mean
    post = poptorch.MeanReductionStrategy.Post
    assert options.Training.meanAccumulationAndReplicationReductionStrategy is post


SIMPLE = [
    ("deviceIterations", (8,), "device_iterations", 8),
    ("replicationFactor", (4,), "replication_factor", 4),
    ("broadcastBuffers", (False,), "broadcast_buffers", False),
    ("autoRoundNumIPUs", (), "auto_round_num_ipus", True),
    ("logDir", ("logs",), "log_dir", "logs"),
    ("maxRepeatLogs", (None,), "max_repeat_logs", None),
    ("maxRepeatLogs", (7,), "max_repeat_logs", 7),
    ("logCycleCount", (True,), "log_cycle_count", True),
    ("connectionType", (poptorch.ConnectionType.OnDemand,), "connection_type", 1),
    ("syncPattern", (poptorch.SyncPattern.ReplicaAndLadder,), "sync_pattern", 2),
    ("useIpuModel", (True,), "use_model", True),
    ("useIpuId", (3,), "ipu_id", 3),
    ("useOfflineIpuTarget", (), "ipu_version", 2),
    ("modelName", ("d0",), "model_name", "d0"),
    ("randomSeed", (42,), "random_seed", 42),
    ("enableSyntheticData", (True,), "enable_synthetic_data", True),
    ("setAvailableMemoryProportion", ({"IPU1": 0.3},), "available_memory_proportion", {1: 0.3}),
    ("outputMode", (poptorch.OutputMode.Sum,), "output_mode", poptorch.OutputMode.Sum),
    ("outputMode", (poptorch.OutputMode.EveryN, 3), "output_return_period", 3),
    ("outputMode", (poptorch.OutputMode.All, 3), "output_return_period", 1),
]


@pytest.mark.parametrize(("method", "arguments", "name", "value"), SIMPLE)
def test_methods_store_and_return_the_options(
    options: poptorch.Options, method: str, arguments: Any, name: str, value: object
) -> None:
    assert getattr(options, method)(*arguments) is options
    assert getattr(options, name) == value
    assert options(name) == value  # 1.3: reads like an attribute


def test_offline_target_never_connects(options: poptorch.Options) -> None:
    options.useOfflineIpuTarget()
    assert options.connection_type == poptorch.ConnectionType.Never


def test_values_are_not_checked_for_range(options: poptorch.Options) -> None:
    assert options.deviceIterations(0).device_iterations == 0


def test_a_bool_passes_as_an_int_and_leaves_the_option_an_int(options: poptorch.Options) -> None:
    options.deviceIterations(True)
    options.deviceIterations(5)
    assert options.device_iterations == 5


def test_random_seed_seeds_torch(options: poptorch.Options) -> None:
    options.randomSeed(7)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    torch.testing.assert_close(drawn, torch.rand(3), rtol=0, atol=0)


def test_default_output_mode_until_one_is_set(options: poptorch.Options) -> None:
    assert options.defaultOutputMode()
    assert not options.outputMode(poptorch.OutputMode.All).defaultOutputMode()


def test_synthetic_data_takes_popart_s_number(options: poptorch.Options) -> None:
    # as programs write it: int(popart.SyntheticDataMode.RandomNormal)
    assert options.enableSyntheticData(2).enable_synthetic_data is True
    assert options.enableSyntheticData(0).enable_synthetic_data is False
    with pytest.raises(AssertionError, match="expects a bool"):
        options.enableSyntheticData("yes")  # type: ignore[arg-type]  # the mistake


def test_anchored_tensor_keeps_name_mode_and_period(options: poptorch.Options) -> None:
    options.anchorTensor("g", "Gradient___fc.weight", poptorch.OutputMode.EveryN, 2)
    options.anchorTensor("w", "fc.weight")
    every = poptorch.OutputMode.EveryN
    assert options.anchored_tensors["g"] == ["Gradient___fc.weight", False, every, 2]
    assert options.anchored_tensors["w"][1] is True


def test_input_groups_store_size_and_type(options: poptorch.Options) -> None:
    options.replicationFactor(4).inputReplicaGrouping(2, poptorch.CommGroupType.Orthogonal)
    assert (options.input_group_size, options.input_cgt) == (2, poptorch.CommGroupType.Orthogonal)
    options.inputReplicaGrouping(4, poptorch.CommGroupType.NoGrouping)
    assert options.input_group_size == 1
    assert options.input_cgt is poptorch.CommGroupType.Consecutive


# ---- 1.3: refusals -----------------------------------------------------------------------------

REFUSED = [
    (lambda o: o.deviceIterations("4"), AssertionError, "^Unexpected type"),
    (lambda o: o.set(iterations=4), AssertionError, "Invalid option"),
    (lambda o: setattr(o, "iterations", 4), AssertionError, "Invalid option"),
    (lambda o: o.iterations, AttributeError, r"Invalid attribute iterations\."),
    (lambda o: o.ipu_id, AttributeError, r"Invalid attribute ipu_id\."),
    (lambda o: setattr(o, "_secret", 4), AttributeError, "Invalid private attribute"),
    (lambda o: o.outputMode("All"), AssertionError, "outputMode expects"),
    (lambda o: o.outputMode(poptorch.OutputMode.EveryN), AssertionError, "valid positive number"),
    (
        lambda o: o.outputMode(poptorch.OutputMode.EveryN, 0),
        AssertionError,
        "valid positive number",
    ),
    (lambda o: o.setExecutionStrategy("pipelined"), AssertionError, "PipelinedExecution"),
    (lambda o: o.setAvailableMemoryProportion({"0": 0.3}), AssertionError, "IPU0"),
    (lambda o: o.setAvailableMemoryProportion(0.3), AssertionError, "expects a dict"),
    (lambda o: o.randomSeed("x"), AssertionError, "expects an int"),
    (lambda o: o.connectionType(0), AssertionError, "ConnectionType"),
    (
        lambda o: o.inputReplicaGrouping(1, poptorch.CommGroupType.All),
        ValueError,
        "input_group_type cannot be All",
    ),
    (
        lambda o: o.inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive),
        ValueError,
        "input_group_size cannot be larger than replication_factor",
    ),
    (
        lambda o: o.replicationFactor(4).inputReplicaGrouping(
            3, poptorch.CommGroupType.Consecutive
        ),
        ValueError,
        "input_group_size must be a factor of replication_factor",
    ),
    (
        lambda o: o.Training.accumulationAndReplicationReductionType(
            poptorch.ReductionType.NoReduction
        ),
        ValueError,
        "NoReduction",
    ),
    (lambda o: o.Training.accumulationAndReplicationReductionType(1), ValueError, "got 1"),
    (lambda o: o.Training.gradientAccumulation("1"), AssertionError, "^Unexpected type"),
    (lambda o: o.Precision.setPartialsType(torch.int32), ValueError, "got torch.int32"),
    (lambda o: o.Precision.enableFloatingPointExceptions(1), AssertionError, "bool"),
    (lambda o: o.Precision.runningStatisticsAlwaysFloat(1), ValueError, "bool"),
    (
        lambda o: o.Jit.traceModel(True),
        ValueError,
        r"options\.Jit\.traceModel\(True\) is no longer supported",
    ),
    (
        lambda o: o.TensorLocations.numIOTiles(33),
        AssertionError,
        r"numIOTiles must be an even number between 32 and 192\.",
    ),
    (lambda o: o.TensorLocations.numIOTiles(194), AssertionError, "between 32 and 192"),
    (lambda o: o.TensorLocations.setWeightLocation({}), AssertionError, "TensorLocationSettings"),
    (lambda o: o.toDict(), AssertionError, "An output mode must be picked before serialisation"),
]


@pytest.mark.parametrize(("change", "kind", "words"), REFUSED)
def test_misuse_raises_poptorch_class_and_words(
    options: poptorch.Options, change: Callable[[Any], object], kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        change(options)


def test_an_executable_cache_must_be_a_directory(options: poptorch.Options, tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("")
    with pytest.raises(AssertionError, match="directory that can be written"):
        options.enableExecutableCaching(str(file))
    options.enableExecutableCaching(str(tmp_path))
    assert options._Popart.options["cachePath"] == str(tmp_path)
    options.enableExecutableCaching(None)
    assert options._Popart.options["enableEngineCaching"] is False
