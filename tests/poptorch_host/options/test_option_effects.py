"""No option is a silent no-op: each is honoured, ignored with a reason, or refused."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import host
from poptorch_host.environment import VARIABLES
from poptorch_host.options.effect_tables import HONOURED, IGNORED, REFUSED
from poptorch_host.options.effects import effects_of
from poptorch_host.options.options_dict import OptionsDict

NO_SETTERS = {"clone", "defaultOutputMode", "from_json", "loadFromFile", "toDict"}
NO_SETTERS |= {name for name in vars(OptionsDict) if not name.startswith("_")}
SECTIONS = ("", "Training", "Precision", "Jit", "Distributed", "TensorLocations", "_Popart")


def setters() -> Iterator[str]:
    options = poptorch.Options()
    for section in SECTIONS:
        kind = type(getattr(options, section) if section else options)
        for name, _ in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_") or (
                name in NO_SETTERS and (section, name) != ("_Popart", "set")
            ):
                continue
            yield f"{section}.{name}" if section else name


def test_every_setter_is_in_exactly_one_table() -> None:
    tables = [*HONOURED, *IGNORED, *REFUSED]
    assert len(set(tables)) == len(tables)
    whole = {name for name in tables if "(" not in name}
    assert whole == set(setters())


def test_the_document_has_the_tables(repository: Path) -> None:
    tables = (("honoured", HONOURED), ("ignored", IGNORED), ("refused", REFUSED))
    rows = [f"| {title} | `{name}` | {text} |" for title, t in tables for name, text in t.items()]
    written = (repository / "docs" / "poptorch_host.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in written if line.startswith(("| hon", "| ign", "| ref"))] == rows


def test_every_entry_has_a_reason() -> None:
    for reason in [*HONOURED.values(), *IGNORED.values(), *REFUSED.values()]:
        assert len(reason.split()) >= 2, reason


# each setter with arguments that change something
CHANGES: Dict[str, Any] = {
    "Distributed.configureProcessId": lambda o: o.Distributed.configureProcessId(1, 2),
    "Training.accumulationAndReplicationReductionType": lambda o: (
        o.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
    ),
    "Training.gradientAccumulation": lambda o: o.Training.gradientAccumulation(2),
    "Training.setMeanAccumulationAndReplicationReductionStrategy": lambda o: (
        o.Training.setMeanAccumulationAndReplicationReductionStrategy(
            poptorch.MeanReductionStrategy.Running
        )
    ),
    "Precision.enableFloatingPointExceptions": lambda o: o.Precision.enableFloatingPointExceptions(
        True
    ),
    "Precision.enableStochasticRounding": lambda o: o.Precision.enableStochasticRounding(True),
    "Precision.halfFloatCasting": lambda o: o.Precision.halfFloatCasting(
        poptorch.HalfFloatCastingBehavior.HalfUpcastToFloat
    ),
    "Precision.runningStatisticsAlwaysFloat": lambda o: o.Precision.runningStatisticsAlwaysFloat(
        False
    ),
    "TensorLocations.numIOTiles": lambda o: o.TensorLocations.numIOTiles(32),
    "TensorLocations.setAccumulatorLocation": lambda o: o.TensorLocations.setAccumulatorLocation(
        poptorch.TensorLocationSettings()
    ),
    "TensorLocations.setActivationLocation": lambda o: o.TensorLocations.setActivationLocation(
        poptorch.TensorLocationSettings()
    ),
    "TensorLocations.setOptimizerLocation": lambda o: o.TensorLocations.setOptimizerLocation(
        poptorch.TensorLocationSettings()
    ),
    "TensorLocations.setWeightLocation": lambda o: o.TensorLocations.setWeightLocation(
        poptorch.TensorLocationSettings()
    ),
    '_Popart.set("outlineThreshold")': lambda o: o._Popart.set("outlineThreshold", 1.0),
    '_Popart.set("engineOptions")': lambda o: o._Popart.setEngineOptions({"a": "b"}),
    "_Popart.setPatterns": lambda o: o._Popart.setPatterns({"A": True}),
    "anchorTensor": lambda o: o.anchorTensor("a", "b"),
    "autoRoundNumIPUs": lambda o: o.autoRoundNumIPUs(),
    "broadcastBuffers": lambda o: o.broadcastBuffers(False),
    "connectionType": lambda o: o.connectionType(poptorch.ConnectionType.OnDemand),
    "deviceIterations": lambda o: o.deviceIterations(2),
    "disableModuleNamescope": lambda o: o.disableModuleNamescope(),
    "enableSyntheticData": lambda o: o.enableSyntheticData(True),
    "inputReplicaGrouping": lambda o: o.replicationFactor(2).inputReplicaGrouping(
        2, poptorch.CommGroupType.Consecutive
    ),
    "logCycleCount": lambda o: o.logCycleCount(True),
    "logDir": lambda o: o.logDir("logs"),
    "maxRepeatLogs": lambda o: o.maxRepeatLogs(None),
    "modelName": lambda o: o.modelName("d0"),
    "outputMode": lambda o: o.outputMode(poptorch.OutputMode.Sum),
    "randomSeed": lambda o: o.randomSeed(1),
    "relaxOptimizerAttributesChecks": lambda o: o.relaxOptimizerAttributesChecks(),
    "replicationFactor": lambda o: o.replicationFactor(2),
    "setAvailableMemoryProportion": lambda o: o.setAvailableMemoryProportion({"IPU0": 0.3}),
    "setExecutionStrategy": lambda o: o.setExecutionStrategy(poptorch.ShardedExecution()),
    "showCompilationProgressBar": lambda o: o.showCompilationProgressBar(False),
    "sourceLocationExcludes": lambda o: o.appendToLocationExcludes("a.py"),
    "syncPattern": lambda o: o.syncPattern(poptorch.SyncPattern.SinglePipeline),
    "updatableNamedBuffers": lambda o: o.updatableNamedBuffers(["a"]),
    "useIpuId": lambda o: o.useIpuId(1),
    "useIpuModel": lambda o: o.useIpuModel(True),
    "useOfflineIpuTarget": lambda o: o.useOfflineIpuTarget(),
}
# these write session options, or set again what another setter sets
ELSEWHERE = {
    "Distributed.disable",
    "Distributed.setEnvVarNames",
    "Jit.traceModel",
    "Precision.setPartialsType",
    "Training.setAutomaticLossScaling",
    "Training.setConvolutionDithering",
    "_Popart.set",
    "_Popart.setEngineOptions",
    "appendToLocationExcludes",
    "enableExecutableCaching",
    "enableProfiling",
    "enableStableNorm",
}


def test_the_changes_here_are_all_setters() -> None:
    assert {name for name in CHANGES if "(" not in name} | ELSEWHERE == set(setters())


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_changed_option_is_told_under_its_own_name(options: poptorch.Options, name: str) -> None:
    assert effects_of(options).render() == ""
    CHANGES[name](options)
    effects = effects_of(options)
    assert (name in effects.honoured) != (name in effects.ignored)
    assert name in effects.render()


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (lambda o: o.Precision.setPartialsType(torch.half), {"partialsTypeMatMuls"}),
        (lambda o: o.Training.setConvolutionDithering(True), {"convolutionOptions"}),
        (lambda o: o.enableProfiling("a"), {"engineOptions"}),
        (lambda o: o.enableStableNorm(True), {"enableStableNorm"}),
    ],
)
def test_methods_that_write_session_options_are_told_by_their_keys(
    options: poptorch.Options, change: Any, keys: Any
) -> None:
    change(options)
    assert {f'_Popart.set("{key}")' for key in keys} <= set(effects_of(options).ignored)


def test_automatic_loss_scaling_is_popart_s_option(options: poptorch.Options) -> None:
    options.Training.setAutomaticLossScaling(True)
    assert options.Training.auto_loss_scaling
    by_key = options.clone()
    by_key._Popart.set("automaticLossScalingSettings.enabled", False)
    assert not by_key.Training.auto_loss_scaling
    name = '_Popart.set("automaticLossScalingSettings.enabled")'
    assert name in effects_of(options).honoured


def test_options_are_told_once_at_compile(
    options: poptorch.Options, caplog: pytest.LogCaptureFixture
) -> None:
    options.deviceIterations(2).setAvailableMemoryProportion({"IPU0": 0.3}).modelName("d0")
    executor = poptorch.inferenceModel(nn.ReLU(), options)
    with caplog.at_level("INFO", logger="poptorch::python"):
        executor(torch.ones(2))
        executor(torch.ones(2))
    told = [r.getMessage() for r in caplog.records if "What a host does" in r.getMessage()]
    assert told == [
        "What a host does with these options:\n"
        "  honoured: deviceIterations\n"
        "  ignored: setAvailableMemoryProportion (a host has one memory)\n"
        "  ignored: modelName (it names reports of PopVision)"
    ]


def test_a_report_has_the_options(options: poptorch.Options) -> None:
    executor = poptorch.inferenceModel(nn.ReLU(), options.useIpuModel(True))
    executor.compile(torch.ones(1))
    report = host.report(executor)
    assert report.options is not None
    assert set(report.options.ignored) == {"useIpuModel"}
    assert "ignored: useIpuModel (a host is neither an IPU" in report.render()


def test_variables_of_the_environment_are_told(
    options: poptorch.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2.16
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POPTORCH_WAIT_FOR_IPU", "1")
    monkeypatch.setenv("POPTORCH_IPU_MODEL", "1")
    text = effects_of(options).render()
    assert "environment: POPTORCH_WAIT_FOR_IPU (ignored: a host's device is always free)" in text
    assert "environment: POPTORCH_IPU_MODEL (ignored:" in text
    assert poptorch.ipuHardwareIsAvailable() is False


def test_known_variables_are_those_of_the_specification() -> None:
    # 2.16
    names = "CACHE_DIR DEFAULT_OPTIONS EXPORT_PROTO_AS_BINARY EXPORT_PROTO_FILE IPU_MODEL"
    names += " IPU_MODEL_VERSION LOG_DEST LOG_LEVEL MAX_GRAPH_LEN SMALL_IPU_MODEL WAIT_FOR_IPU"
    others = {"POPART_LOG_LEVEL", "POPLAR_ENGINE_OPTIONS", "POPLAR_LOG_LEVEL", "PVTI_OPTIONS"}
    assert set(VARIABLES) == {f"POPTORCH_{name}" for name in names.split()} | others
