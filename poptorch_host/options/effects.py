"""What a host does with the options of one model: said once at compile, and in `host.report`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

from .._logging import logger, set_max_repeat_logs
from ..enums import OutputMode
from ..environment import variables
from ..errors import createPoptorchError, raised_in
from .effect_tables import HONOURED, IGNORED, REFUSED
from .options import Options
from .session_options import check_patterns_level, check_session_options

_ACCESSORS = {
    "anchored_tensors": "anchorTensor",
    "auto_round_num_ipus": "autoRoundNumIPUs",
    "available_memory_proportion": "setAvailableMemoryProportion",
    "broadcast_buffers": "broadcastBuffers",
    "connection_type": "connectionType",
    "device_iterations": "deviceIterations",
    "enable_synthetic_data": "enableSyntheticData",
    "input_cgt": "inputReplicaGrouping",
    "input_group_size": "inputReplicaGrouping",
    "ipu_id": "useIpuId",
    "ipu_version": "useOfflineIpuTarget",
    "log_cycle_count": "logCycleCount",
    "log_dir": "logDir",
    "max_repeat_logs": "maxRepeatLogs",
    "model_name": "modelName",
    "output_mode": "outputMode",
    "output_return_period": "outputMode",
    "random_seed": "randomSeed",
    "replication_factor": "replicationFactor",
    "sync_pattern": "syncPattern",
    "use_model": "useIpuModel",
    "Training.accumulation_and_replication_reduction_type": (
        "Training.accumulationAndReplicationReductionType"
    ),
    "Training.gradient_accumulation": "Training.gradientAccumulation",
    "Training.meanAccumulationAndReplicationReductionStrategy": (
        "Training.setMeanAccumulationAndReplicationReductionStrategy"
    ),
    "Precision.enable_floating_point_exceptions": "Precision.enableFloatingPointExceptions",
    "Precision.enable_stochastic_rounding": "Precision.enableStochasticRounding",
    "Precision.half_float_casting": "Precision.halfFloatCasting",
    "Precision.running_statistics_always_float": "Precision.runningStatisticsAlwaysFloat",
    "TensorLocations.location_accumulator": "TensorLocations.setAccumulatorLocation",
    "TensorLocations.location_activation": "TensorLocations.setActivationLocation",
    "TensorLocations.location_optimizer": "TensorLocations.setOptimizerLocation",
    "TensorLocations.location_weight": "TensorLocations.setWeightLocation",
    "TensorLocations.numIOTiles": "TensorLocations.numIOTiles",
}
"""Where a value is kept -> the method that sets it."""
_DEFAULT_MODES = (OutputMode.All, OutputMode.Final)
"""What an executor picks where the program did not."""


_OWN = "a value of the program's own, as popdist keeps ipus_per_replica; no executor reads it"


@dataclass(frozen=True)
class Effects:
    """Options that a program changed, by what a host does with them."""

    honoured: Dict[str, str]
    """Option -> its effect."""
    ignored: Dict[str, str]
    """Option -> why it changes nothing here."""
    variables: Dict[str, str]
    """Environment variable of PopTorch that is set -> what a host does with it."""

    def render(self) -> str:
        """The same as text; "" where nothing was changed."""
        lines = []
        if self.honoured:
            lines.append(f"  honoured: {', '.join(self.honoured)}")
        for title, found in (("ignored", self.ignored), ("environment", self.variables)):
            lines += [f"  {title}: {name} ({reason})" for name, reason in found.items()]
        return "\n".join(["What a host does with these options:", *lines]) if lines else ""


def announce(options: Options) -> None:
    """At compile: check what PopTorch checks then, and say once what has which effect here.

    Raises:
        poptorch.Error: an option of PopART that does not exist, or one that asks for other results
            than the host computes.
        AssertionError: `_Popart.set` names an option of PopTorch's own.
    """
    set_max_repeat_logs(options.max_repeat_logs)
    options.toDict()
    with raised_in("options of the model"):
        check_session_options(options._Popart.options)
        check_patterns_level(options._Popart.patterns_level)
    _refuse(options)
    text = effects_of(options).render()
    if text:
        logger.info(text)


def effects_of(options: Options) -> Effects:
    """What a host does with the options that differ from PopTorch's defaults."""
    honoured, ignored = {}, {}
    for accessor in dict.fromkeys(_changed(options)):
        general = accessor.split("(")[0]
        if accessor in HONOURED:
            honoured[accessor] = HONOURED[accessor]
        elif accessor in REFUSED:
            honoured[accessor] = "agrees with the other options"
        else:
            ignored[accessor] = IGNORED.get(accessor, IGNORED.get(general, _OWN))
    return Effects(honoured, ignored, variables())


def _changed(options: Options) -> Iterator[str]:
    """Accessors of what differs from the defaults, in a fixed order."""
    for key in options.changed():
        if key != "output_mode" or options.output_mode not in _DEFAULT_MODES:
            yield _ACCESSORS.get(key, key)
    if options._execution_strategy is not options._first_strategy:
        yield "setExecutionStrategy"
    private: List[Tuple[str, bool]] = [
        ("disableModuleNamescope", not options._module_namescope_enabled),
        ("relaxOptimizerAttributesChecks", options._relax_optimizer_checks),
        ("showCompilationProgressBar", not options._show_compilation_progress_bar),
        ("sourceLocationExcludes", bool(options._source_location_excludes)),
        ("updatableNamedBuffers", bool(options._updatable_named_buffers)),
    ]
    yield from (accessor for accessor, changed in private if changed)
    for name in ("Training", "Precision"):
        for key in getattr(options, name).changed():
            yield _ACCESSORS[f"{name}.{key}"]
    if options.Distributed.numProcesses != 1:
        yield "Distributed.configureProcessId"
    yield from (_ACCESSORS[f"TensorLocations.{key}"] for key in options.TensorLocations.toDict())
    yield from (f'_Popart.set("{key}")' for key in options._Popart.options)
    if options._Popart.patterns or options._Popart.patterns_level != 2:
        yield "_Popart.setPatterns"


def _refuse(options: Options) -> None:
    """Keys by which PopART would compute something else than the other options say."""
    training = options.Training
    reduction = training.accumulation_and_replication_reduction_type
    agreeing: Dict[str, Any] = {
        "accumulationAndReplicationReductionType": reduction,
        "accumulationReductionType": reduction,
        "accumulationFactor": training.gradient_accumulation,
        "compileEngine": True,
    }
    for key, value in options._Popart.options.items():
        accessor = f'_Popart.set("{key}")'
        if key in agreeing and int(value) != int(agreeing[key]):
            raise createPoptorchError(
                f"{accessor} with {value!r} is refused, because other options say"
                f" {agreeing[key]!r} and poptorch_host follows those: {REFUSED[accessor]}"
            )
