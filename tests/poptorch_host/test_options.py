"""Options keep what PopTorch keeps, refuse what it refuses, and freeze when it freezes them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host.options import _DistributedOptions
from poptorch_host.options.effects import without_effect


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> poptorch.Options:
    for name in (
        "POPTORCH_CACHE_DIR",
        "POPTORCH_DEFAULT_OPTIONS",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
    ):
        monkeypatch.delenv(name, raising=False)
    return poptorch.Options()


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


# ---- 1.3: freezing and copies --------------------------------------------------------------------

CHANGES = [
    lambda o: o.deviceIterations(2),
    lambda o: o.maxRepeatLogs(None),
    lambda o: o.setExecutionStrategy(poptorch.ShardedExecution()),
    lambda o: o.updatableNamedBuffers(["a"]),
    lambda o: setattr(o, "device_iterations", 2),
    lambda o: o.Training.gradientAccumulation(2),
    lambda o: o.Precision.enableStochasticRounding(True),
    lambda o: o.Distributed.configureProcessId(0, 2),
    lambda o: o.TensorLocations.numIOTiles(64),
    lambda o: o.TensorLocations.setWeightLocation(poptorch.TensorLocationSettings()),
    lambda o: o._Popart.set("x", 1),
    lambda o: o._Popart.setPatterns({"A": True}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_frozen_options_refuse_every_change(
    options: poptorch.Options, change: Callable[[Any], object]
) -> None:
    options._freeze()
    before = repr(options)
    with pytest.raises(AttributeError, match="Can't modify frozen Options"):
        change(options)
    assert repr(options) == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: o.clone()])
def test_copies_are_independent_and_not_frozen(
    options: poptorch.Options, duplicate: Callable[[Any], Any]
) -> None:
    options.deviceIterations(2)
    options._Popart.set("a", 1)
    options._freeze()
    copied = duplicate(options)
    copied.deviceIterations(3).Training.gradientAccumulation(4)
    copied._Popart.set("a", 2)
    copied.Precision.setPartialsType(torch.half)  # writes into the copy's own _Popart
    assert (options.device_iterations, copied.device_iterations) == (2, 3)
    assert options.Training.gradient_accumulation == 1
    assert options._Popart.options == {"a": 1}
    assert copied._Popart.options["partialsTypeMatMuls"] == "half"


def test_pickled_options_keep_their_values(options: poptorch.Options) -> None:
    options.deviceIterations(2).Training.gradientAccumulation(3)
    loaded = pickle.loads(pickle.dumps(options))
    assert repr(loaded) == repr(options)


def test_a_subclass_may_make_private_attributes_in_its_constructor() -> None:
    class Launched(poptorch.Options):  # as popdist.poptorch.Options does
        def __init__(self) -> None:
            super().__init__()
            self._ipus_per_replica = 2

    launched = Launched()
    assert launched._ipus_per_replica == 2
    with pytest.raises(AttributeError, match="Invalid private attribute"):
        launched._later = 1


def test_sections_chain_within_themselves(options: poptorch.Options) -> None:
    training = options.Training.gradientAccumulation(8)
    assert training is options.Training  # 7.5
    with pytest.raises(AttributeError, match="Invalid attribute deviceIterations"):
        training.deviceIterations(2)


def test_repr_lists_values_and_sections(options: poptorch.Options) -> None:
    text = repr(options.deviceIterations(12))
    assert text.startswith("Options(")
    for part in ("device_iterations=12", "gradient_accumulation=1", "numProcesses=1", "_Popart="):
        assert part in text


def test_to_dict_merges_sections_and_strategy(options: poptorch.Options) -> None:
    options.replicationFactor(2).outputMode(poptorch.OutputMode.All)
    options.Training.gradientAccumulation(8)
    options.setExecutionStrategy(poptorch.ShardedExecution())
    options._Popart.set("autoRecomputation", 3)
    settings = options.toDict()
    expected = {
        "replication_factor": 2,
        "device_iterations": 1,
        "gradient_accumulation": 8,
        "execution_mode": 1,
        "autoRecomputation": 3,
    }
    assert {key: settings[key] for key in expected} == expected


# ---- 1.3: sections -----------------------------------------------------------------------------


def test_popart_keeps_any_key(options: poptorch.Options) -> None:
    options._Popart.set("outlineThreshold", 10.0).setEngineOptions({"a": "b"})
    options._Popart.setPatterns({"TiedGather": False}, level=0)
    assert options._Popart.options == {"outlineThreshold": 10.0, "engineOptions": {"a": "b"}}
    assert options._Popart.patterns == {"TiedGather": False}
    assert options._Popart.patterns_level == 0


def test_partials_type_and_dithering_replace_each_other(
    options: poptorch.Options, caplog: pytest.LogCaptureFixture
) -> None:
    # PopTorch writes the whole dictionary in both places, so the first setting is lost.
    options.Precision.setPartialsType(torch.half)
    assert options._Popart.options["convolutionOptions"] == {"partialsType": "half"}
    options.Training.setConvolutionDithering(True)
    assert options._Popart.options["convolutionOptions"] == {"enableConvDithering": "true"}
    assert "{'partialsType': 'half'} are replaced" in caplog.text


def test_profiling_adds_to_engine_options(options: poptorch.Options) -> None:
    options._Popart.setEngineOptions({"target.syncReplicasIndependently": "true"})
    options.enableProfiling("profile")
    assert options._Popart.options["engineOptions"] == {
        "target.syncReplicasIndependently": "true",
        "autoReport.all": "true",
        "autoReport.directory": "profile",
    }


def test_tensor_locations_store_settings(options: poptorch.Options) -> None:
    settings = poptorch.TensorLocationSettings().useOnChipStorage(False).minElementsForOffChip(4)
    options.TensorLocations.numIOTiles(64).setOptimizerLocation(settings)
    assert options.TensorLocations.toDict() == {
        "numIOTiles": 64,
        "location_optimizer": {"onChip": False, "minElementsForOffChip": 4},
    }


def test_deprecated_options_warn_and_stay_without_effect(
    options: poptorch.Options, caplog: pytest.LogCaptureFixture
) -> None:
    options.Jit.traceModel(False)
    options.Precision.halfFloatCasting(poptorch.HalfFloatCastingBehavior.Default)
    options.Precision.runningStatisticsAlwaysFloat(True)
    post_and_loss = poptorch.MeanReductionStrategy.PostAndLoss
    options.Training.setMeanAccumulationAndReplicationReductionStrategy(post_and_loss)
    assert caplog.text.count("deprecated") == 4


def test_distributed_reads_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("MY_SIZE", "8")
    monkeypatch.setenv("MY_RANK", "5")
    distributed = poptorch.Options().Distributed
    assert isinstance(distributed, _DistributedOptions)
    assert (distributed.processId, distributed.numProcesses) == (3, 4)
    distributed.setEnvVarNames("MY_SIZE", "MY_RANK")
    assert (distributed.processId, distributed.numProcesses) == (5, 8)
    distributed.configureProcessId(1, 2)
    assert (distributed.processId, distributed.numProcesses) == (1, 2)
    distributed.disable()
    assert (distributed.processId, distributed.numProcesses) == (0, 1)


# ---- 1.3: options from text ----------------------------------------------------------------------


def test_environment_gives_cache_and_defaults(
    options: poptorch.Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POPTORCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(
        "POPTORCH_DEFAULT_OPTIONS",
        '{"deviceIterations": 4, "outputMode": ["OutputMode.EveryN", 2],'
        ' "Training.gradientAccumulation": 8, "_Popart.set": ["outlineThreshold", 1.5]}',
    )
    made = poptorch.Options()
    assert made._Popart.options["cachePath"] == str(tmp_path)
    assert made._Popart.options["outlineThreshold"] == 1.5
    assert made.device_iterations == 4
    assert made.output_mode is poptorch.OutputMode.EveryN
    assert made.output_return_period == 2
    assert made.Training.gradient_accumulation == 8


def test_json_refuses_unknown_accessors_and_other_shapes(options: poptorch.Options) -> None:
    with pytest.raises(AttributeError, match="Invalid attribute anchorMode"):
        options.from_json('{"anchorMode": "OutputMode.All"}')
    with pytest.raises(ValueError, match="device_iterations is no method"):
        options.from_json('{"device_iterations": 3}')
    with pytest.raises(ValueError, match="an object"):
        options.from_json("[1, 2]")


def test_a_file_makes_one_call_a_line(options: poptorch.Options, tmp_path: Path) -> None:
    file = tmp_path / "options.txt"
    file.write_text(
        "# settings of the first run\n"
        "\n"
        "deviceIterations(4)  # steps\n"
        "outputMode(poptorch.OutputMode.All)\n"
        "setExecutionStrategy(poptorch.ShardedExecution(poptorch.AutoStage.AutoIncrement))\n"
        "Training.gradientAccumulation(8)\n"
        "Precision.setPartialsType(torch.half)\n"
        'setAvailableMemoryProportion({"IPU0": 0.25})\n'
        "TensorLocations.setOptimizerLocation(\n".replace("(\n", "(")
        + "poptorch.TensorLocationSettings().useOnChipStorage(True))\n"
        '_Popart.set("a", -1)\n'
    )
    assert options.loadFromFile(file) is options
    assert options.device_iterations == 4
    assert options.output_mode is poptorch.OutputMode.All
    assert options._execution_strategy.auto_stage is poptorch.AutoStage.AutoIncrement
    assert options.Training.gradient_accumulation == 8
    assert options._Popart.options["partialsTypeMatMuls"] == "half"
    assert options.available_memory_proportion == {0: 0.25}
    assert options.TensorLocations.toDict()["location_optimizer"] == {"onChip": True}
    assert options._Popart.options["a"] == -1


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("anchorMode(1)", "Invalid attribute anchorMode"),
        ("deviceIterations('a')", "Unexpected type"),
        ("deviceIterations", "expected one call"),
        ("deviceIterations(4", ""),
        ("import os", "expected one call"),
        ("deviceIterations(__import__('os').getpid())", "unknown name __import__"),
        ("deviceIterations.__globals__.get(4)", "not allowed"),
    ],
)
def test_a_bad_line_is_named(
    options: poptorch.Options, tmp_path: Path, line: str, detail: str
) -> None:
    file = tmp_path / "options.txt"
    file.write_text(f"replicationFactor(2)\n{line}\n")
    with pytest.raises(poptorch.ConfigFileError) as raised:
        options.loadFromFile(str(file))
    message = str(raised.value)
    assert "line 2" in message
    assert str(file) in message
    assert detail in message
    assert message.endswith(f"> {line}")


# ---- what a host does with them ------------------------------------------------------------------


def test_settings_without_effect_on_a_host_are_named(options: poptorch.Options) -> None:
    assert without_effect(options) == []
    options.deviceIterations(4).setAvailableMemoryProportion({"IPU0": 0.3}).modelName("d0")
    options.Precision.enableStochasticRounding(True)
    options.TensorLocations.numIOTiles(64)
    options._Popart.set("outlineThreshold", 10.0)
    assert without_effect(options) == [
        "setAvailableMemoryProportion",
        "modelName",
        "Precision.enableStochasticRounding",
        "TensorLocations: numIOTiles",
        '_Popart.set("outlineThreshold")',
    ]
