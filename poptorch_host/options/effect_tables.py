"""What a host does with each option: every setter of `Options` is in exactly one of three tables.

Names are accessors as a program writes them: `Training.gradientAccumulation`; keys of
`_Popart.set` as `_Popart.set("key")`.
"""

from __future__ import annotations

from typing import Dict

HONOURED: Dict[str, str] = {
    "Distributed.configureProcessId": "gives instance and number of instances",
    "Distributed.disable": "makes this the only instance",
    "Distributed.setEnvVarNames": "names the variables of the launcher",
    "Training.accumulationAndReplicationReductionType": "reduces gradients",
    "Training.gradientAccumulation": "accumulates micro-batches",
    "Training.setAutomaticLossScaling": "adapts the loss scale to half gradients",
    "Training.setMeanAccumulationAndReplicationReductionStrategy": "says when a mean divides",
    '_Popart.set("autoRecomputation")': "0 keeps activations of pipelined training",
    '_Popart.set("automaticLossScalingSettings.enabled")': (
        "as Training.setAutomaticLossScaling, which sets it"
    ),
    '_Popart.set("cachePath")': "the folder of executables",
    '_Popart.set("enableEngineCaching")': "reuses executables",
    '_Popart.set("syntheticDataMode")': "runs nothing and returns zeros, as enableSyntheticData",
    "anchorTensor": "keeps an intermediate tensor",
    "appendToLocationExcludes": "files that are not named as places of operators",
    "autoRoundNumIPUs": "rounds the number of IPUs up before it is checked",
    "broadcastBuffers": "refuses written buffers with replicas, unless False",
    "connectionType": "says when an executor attaches",
    "deviceIterations": "micro-batches, or weight updates, per call",
    "disableModuleNamescope": "tensors lose the prefix of their modules",
    "enableExecutableCaching": "reuses executables",
    "enableSyntheticData": "runs nothing and returns zeros",
    "inputReplicaGrouping": "shares inputs within groups",
    "maxRepeatLogs": "cuts repeated lines",
    "outputMode": "says which micro-batches are returned",
    "randomSeed": "seeds random numbers",
    "relaxOptimizerAttributesChecks": "turns warnings into debug lines",
    "replicationFactor": "copies of the model",
    "setExecutionStrategy": "gives stages",
    "showCompilationProgressBar": "keeps the time for compilationTime()",
    "sourceLocationExcludes": "files that are not named as places of operators",
    "updatableNamedBuffers": "buffers for copyNamedBuffersToDevice()",
    "useIpuId": "one executor of a process holds that device at a time",
    "useOfflineIpuTarget": "compiles without attaching; every version compiles alike",
}
"""Option -> its effect."""

_POPART = "PopART is not used"
_TILES = "a host has no tiles"
_MEMORY = "a host has one memory"
_ROUNDING = "a host computes partial sums and statistics in float32"

IGNORED: Dict[str, str] = {
    "Precision.enableFloatingPointExceptions": "infinities and NaN go through, as in PyTorch",
    "Precision.enableStochasticRounding": "a host rounds to nearest",
    "Precision.halfFloatCasting": "deprecated; casts follow PopTorch 3's rules",
    "Precision.runningStatisticsAlwaysFloat": "deprecated; statistics keep their dtype",
    "Precision.setPartialsType": _ROUNDING,
    "TensorLocations.numIOTiles": _TILES,
    "TensorLocations.setAccumulatorLocation": _MEMORY,
    "TensorLocations.setActivationLocation": _MEMORY,
    "TensorLocations.setOptimizerLocation": _MEMORY,
    "TensorLocations.setWeightLocation": _MEMORY,
    "Training.setConvolutionDithering": _TILES,
    "_Popart.set": _POPART,
    "_Popart.setEngineOptions": "Poplar is not used",
    "_Popart.setPatterns": _POPART,
    "enableProfiling": "PopVision has nothing to show of a host; use torch.profiler",
    "enableStableNorm": _ROUNDING,
    "logCycleCount": "a host counts no cycles; cycleCount() says so, as on a simulator",
    "logDir": "PopART's and Poplar's log files are not written",
    "modelName": "it names reports of PopVision",
    "setAvailableMemoryProportion": _MEMORY,
    "syncPattern": "a host has no IPUs to synchronise",
    "useIpuModel": "a host is neither an IPU nor its simulator",
}
"""Option -> why it changes nothing."""

REFUSED: Dict[str, str] = {
    "Jit.traceModel": "models are never traced; only False passes, and warns",
    '_Popart.set("accumulationAndReplicationReductionType")': (
        "use options.Training.accumulationAndReplicationReductionType"
    ),
    '_Popart.set("accumulationFactor")': "use options.Training.gradientAccumulation",
    '_Popart.set("accumulationReductionType")': (
        "use options.Training.accumulationAndReplicationReductionType"
    ),
    '_Popart.set("compileEngine")': "use options.useOfflineIpuTarget() to compile without running",
}
"""Option -> what would do; refused when its value asks for other results than the other options."""
