"""The sections of options: `Training`, `Precision`, `Distributed` and the others (1.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host.options import TensorLocationSettings, _DistributedOptions


def test_popart_keeps_any_key(options: poptorch.Options) -> None:
    options._Popart.set("outlineThreshold", 10.0).setEngineOptions({"a": "b"})
    options._Popart.setPatterns({"TiedGather": False}, level=0)
    assert options._Popart.options == {"outlineThreshold": 10.0, "engineOptions": {"a": "b"}}
    assert options._Popart.patterns == {"TiedGather": False}
    assert options._Popart.patterns_level == 0


def test_excluded_files_are_no_places_of_operators(options: poptorch.Options) -> None:
    # 1.3: sourceLocationExcludes, appendToLocationExcludes
    def inner(x: torch.Tensor) -> torch.Tensor:
        return x.inverse()

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return inner(x)  # a frame of its own

    def place() -> str:
        with pytest.raises(poptorch.Error, match="Unsupported ops found") as raised:
            poptorch.inferenceModel(Model(), options).compile(torch.eye(2))
        return str(raised.value)

    here = Path(__file__).name
    assert here in place()
    options = options.clone().sourceLocationExcludes(["absent.py"]).appendToLocationExcludes(here)
    assert here not in place()


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


def test_every_method_of_a_location_is_stored(options: poptorch.Options) -> None:
    settings = TensorLocationSettings()
    for method in (
        "useOnChipStorage",
        "useReplicatedTensorSharding",
        "useIOTilesToLoad",
        "useIOTilesToStore",
    ):
        assert getattr(settings, method)(True) is settings
        with pytest.raises(AssertionError, match=method):
            getattr(settings, method)(1)
    settings.minElementsForOffChip(1).minElementsForReplicatedTensorSharding(2)
    locations = options.TensorLocations
    for method in (
        "setActivationLocation",
        "setWeightLocation",
        "setOptimizerLocation",
        "setAccumulatorLocation",
    ):
        assert getattr(locations, method)(settings) is locations
    settings.minElementsForOffChip(9)  # too late: the location has its own copy
    stored = {
        "onChip": True,
        "useReplicatedTensorSharding": True,
        "useIOTilesToLoad": True,
        "useIOTilesToStore": True,
        "minElementsForOffChip": 1,
        "minElementsForReplicatedTensorSharding": 2,
    }
    assert locations.toDict() == {
        "location_activation": stored,
        "location_weight": stored,
        "location_optimizer": stored,
        "location_accumulator": stored,
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
