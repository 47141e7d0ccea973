"""Options freeze when an executor has them; copies do not share anything (1.3)."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Callable

import pytest
import torch

import poptorch_host as poptorch

CHANGES = [
    lambda o: o.Training.setConvolutionDithering(True),
    lambda o: o.Precision.setPartialsType(torch.half),
    lambda o: o.enableExecutableCaching(None),
    lambda o: o.enableStableNorm(True),
    lambda o: o.enableProfiling(),
    lambda o: o._Popart.setEngineOptions({}),
    lambda o: o.Distributed.setEnvVarNames("A", "B"),
    lambda o: o.Distributed.disable(),
    lambda o: o.disableModuleNamescope(),
    lambda o: o.showCompilationProgressBar(False),
    lambda o: o.relaxOptimizerAttributesChecks(),
    lambda o: o.sourceLocationExcludes([]),
    lambda o: o.appendToLocationExcludes("a"),
    lambda o: o.useOfflineIpuTarget(),
    lambda o: o.createOrSet(ipu_id=1),
    lambda o: o.deleteIfExists("log_dir"),
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


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda o: o.clone()])
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
