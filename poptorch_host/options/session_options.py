"""The keys that `_Popart.set` may have when a model compiles: PopART's session options by kind.

PopTorch 3.4 takes a value by its Python type and looks the key up in the table of that kind, so a
key with a value of another type is as unknown as one that does not exist: outlineThreshold is 10.0,
not 10.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple

from .. import popart
from ..errors import compiler_error
from ..provenance import user_line


def _names(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


_BOOL = _names("""
    aliasZeroCopy automaticLossScalingSettings.enabled
    batchSerializationSettings.concatOnExecutionPhaseChange
    batchSerializationSettings.concatOnPipelineStageChange
    batchSerializationSettings.concatOnVirtualGraphChange
    compileEngine constantWeights decomposeGradSum
    delayVarUpdates disableGradAccumulationTensorStreams dotOpNames
    enableConstantFoldingOfMultipleConsumers enableDistributedReplicatedGraphs enableEngineCaching
    enableExplicitMainLoops enableFloatingPointChecks enableFullyConnectedPass
    enableGradientAccumulation enableInplaceAmbiguityChecking
    enableLoadAndOffloadRNGState enableMergeExchange enableNonStableSoftmax enableOutlining
    enableOutliningCopyCostPruning enablePipelining enablePrefetchDatastreams
    enableReplicatedGraphs enableSerializedMatmuls enableStableNorm enableStochasticRounding
    enableSupportedDataTypeCasting enableVariablesCaching ensureFp32LossScaleTensor
    explicitRecomputation exportPoplarComputationGraph exportPoplarVertexGraph
    groupHostSync groupNormStridedChannelGrouping instrumentWithHardwareCycleCounter
    opxAliasChecking opxModifyChecking rearrangeAnchorsOnHost rearrangeStreamsOnHost
    replicatedCollectivesSettings.mergeAllGatherCollectives
    replicatedCollectivesSettings.mergeAllReduceCollectives
    replicatedCollectivesSettings.mergeReduceScatterCollectives
    replicatedCollectivesSettings.prepareScheduleForMergingCollectives
    scheduleNonWeightUpdateGradientConsumersEarly separateCallOpPdfs strictOpVersions
    useHostCopyOps
""")
_UINT64 = _names("""
    accumulateOuterFragmentSettings.schedule accumulationAndReplicationReductionType
    accumulationFactor autoRecomputation autodiffSettings.stitchStrategy
    automaticLossScalingSettings.updatePeriod batchSerializationSettings.batchSchedule
    batchSerializationSettings.factor batchSerializationSettings.method
    batchSerializationSettings.transformContext compilationProgressTotal defaultBufferingDepth
    defaultPrefetchBufferingDepth executionPhaseSettings.phases executionPhaseSettings.stages
    finalDotOp firstDotOp globalReplicaOffset globalReplicationFactor looseThresholdAtPeak
    meanAccumulationAndReplicationReductionStrategy mergeVarUpdate mergeVarUpdateMemThreshold
    numIOTiles subgraphCopyingStrategy swapLimitScheduler syntheticDataMode
    transitiveClosureOptimizationThreshold virtualGraphMode
""")
_FLOAT = _names("""
    automaticLossScalingSettings.binEdgeLocation
    automaticLossScalingSettings.thresholdUpperCountProportion
    outlineSequenceBreakCost outlineThreshold timeLimitScheduler
""")
_STRING = _names("""
    cachePath customCodeletCompileFlags kahnTieBreaker logDir partialsTypeMatMuls
    saveInitializersToFile serializedPoprithmsShiftGraphsDir
""")
_CONTAINER = _names("""
    accumulateOuterFragmentSettings.excludedVirtualGraphs convolutionOptions customCodelets
    dotChecks engineOptions gclOptions hardwareInstrumentations lstmOptions matmulOptions
    reportOptions
""")

_OTHER_RELEASES: Mapping[str, FrozenSet[str]] = {
    "bool": _names("""
        _enableRngStateManagement disableOptimizerStateTensorStreams enableConvolutionGraphCaching
        enableExplicitIR enableGroupedMatmuls enableRngStateManagement
        experimentalSettings.createHostTransferableTensorWithOffset explicitPipelining
        hostAllReduce hostAllReduceRemoteBuffer hostWeightUpdate replicatedWeightSharding
        stashAllTensorsInferencePipeline useLoopCandidateCreator
    """),
    "uint64": _names("""
        accumulationReductionType automaticLossScalingSettings.gradientTensorTrackingMethod
        executionPhaseSettings.accumulatorIOSchedule executionPhaseSettings.activationIOSchedule
        executionPhaseSettings.optimizerStateIOSchedule executionPhaseSettings.schedule
        executionPhaseSettings.weightIOSchedule globalNumIpus maxDotOps
    """),
    "floating point": _names("developerSettings.timePartitionLoggerThresholdPercentage"),
    "string": _names("ipuSystemType serializedPoprithmsAnnealGraphsDir"),
    "set / vector": _names("""
        automaticLossScalingSettings.toTrackTensors updatableNamedBuffers virtualGraphSplitRatios
    """),
    "map": _names("""
        bufferingDepthMap experimentalSettings.customTransformApplierSettings
        prefetchBufferingDepthMap
    """),
}
"""Keys of some release before or after, which programs still set."""

KINDS: Mapping[str, FrozenSet[str]] = {
    "bool": _BOOL | _OTHER_RELEASES["bool"],
    "uint64": _UINT64 | _OTHER_RELEASES["uint64"],
    "floating point": _FLOAT | _OTHER_RELEASES["floating point"],
    "string": _STRING | _OTHER_RELEASES["string"],
    "set / vector": _CONTAINER | _OTHER_RELEASES["set / vector"],
    "map": _CONTAINER | _OTHER_RELEASES["map"],
}
"""Kind, by PopTorch's word for it -> keys."""

_ENUMERATIONS: Dict[str, Any] = {
    "accumulateOuterFragmentSettings.schedule": popart.AccumulateOuterFragmentSchedule,
    "accumulationAndReplicationReductionType": popart.ReductionType,
    "accumulationReductionType": popart.ReductionType,
    "autoRecomputation": popart.RecomputationType,
    "autodiffSettings.stitchStrategy": popart.AutodiffStitchStrategy,
    "batchSerializationSettings.batchSchedule": popart.BatchSerializationBatchSchedule,
    "batchSerializationSettings.method": popart.BatchSerializationMethod,
    "batchSerializationSettings.transformContext": popart.BatchSerializationTransformContext,
    "meanAccumulationAndReplicationReductionStrategy": popart.MeanReductionStrategy,
    "mergeVarUpdate": popart.MergeVarUpdateType,
    "subgraphCopyingStrategy": popart.SubgraphCopyingStrategy,
    "syntheticDataMode": popart.SyntheticDataMode,
    "virtualGraphMode": popart.VirtualGraphMode,
}


def check_session_options(options: Mapping[str, Any]) -> None:
    """Refuse what PopTorch refuses when it hands the options to PopART.

    Raises:
        poptorch.Error: a key that does not exist for a value of its type, a type that no option
            takes, a number that its enumeration does not have.
    """
    for key, value in options.items():
        kind = _kind(value)
        if kind is None:
            raise compiler_error(
                f"Unknown value type {type(value)} for option {key}: values are bool, int, float,"
                " str, set, list or dict",
                user_line(),
            )
        if key not in KINDS[kind]:
            raise compiler_error(f"Unknown {kind} option {key}{_hint(key)}", user_line())
        if kind == "uint64":
            _check_number(key, value)


def check_patterns_level(level: int) -> None:
    """Refuse a level of `_Popart.setPatterns` that PopART does not have.

    Raises:
        poptorch.Error: below 0 or above 3.
    """
    known = [member.value for member in popart.PatternsLevel]
    if level not in known:
        raise compiler_error(
            "_Popart.setPatterns: level must be one of"
            f" {known} (popart.PatternsLevel), got {level}",
            user_line(),
        )


def _kind(value: object) -> Optional[str]:
    kinds: Tuple[Tuple[Any, str], ...] = (
        (bool, "bool"),  # before int, which it is one of
        (int, "uint64"),
        (float, "floating point"),
        (str, "string"),
        ((set, list), "set / vector"),
        (dict, "map"),
    )
    return next((kind for python, kind in kinds if isinstance(value, python)), None)


def _hint(key: str) -> str:
    takes = [kind for kind, keys in KINDS.items() if key in keys]
    return f": it takes a value of kind {' or '.join(takes)}" if takes else ""


def _check_number(key: str, value: int) -> None:
    if value < 0:
        raise compiler_error(
            f"Value {value} for option {key} out of range: it is unsigned", user_line()
        )
    kind = _ENUMERATIONS.get(key)
    if kind is not None and value not in [member.value for member in kind]:
        raise compiler_error(
            f"Value for {kind.__name__} out of range: option {key} takes"
            f" {[f'{member.value} {member.name}' for member in kind]}, got {value}",
            user_line(),
        )
