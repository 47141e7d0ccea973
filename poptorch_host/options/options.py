"""`poptorch.Options`: how a model is split, replicated, fed and compiled."""

from __future__ import annotations

import copy
import os
from typing import Any, Dict, List, Optional, Union

import torch

from .. import enums
from .._logging import logger
from ..blocks.strategies import ExecutionStrategy, PipelinedExecution
from . import from_text
from .options_dict import OptionsDict
from .popart import _PopartOptions
from .sections import _DistributedOptions, _JitOptions, _PrecisionOptions, _TrainingOptions
from .tensor_locations import _TensorLocationOptions


class Options(OptionsDict):
    """A typed dictionary of settings with a method for each; methods return the options.

    A value keeps its type, no range is checked, and the object is frozen once a `DataLoader`, a
    `trainingModel` or an `inferenceModel` uses it: `clone()` gives a copy that can be changed.
    The environment variables POPTORCH_CACHE_DIR and POPTORCH_DEFAULT_OPTIONS (as `from_json`) apply
    at construction.
    """

    replication_factor: int
    input_group_size: int
    input_cgt: enums.CommGroupType
    broadcast_buffers: bool
    device_iterations: int
    log_dir: str
    max_repeat_logs: Optional[int]
    auto_round_num_ipus: bool
    anchored_tensors: Dict[str, List[Any]]
    output_mode: enums.OutputMode
    output_return_period: int
    connection_type: int
    sync_pattern: int
    available_memory_proportion: Dict[int, float]
    log_cycle_count: bool
    # Only after their methods were called:
    use_model: bool
    ipu_id: int
    ipu_version: int
    model_name: str
    random_seed: int

    def __init__(self) -> None:
        super().__init__(
            replication_factor=1,
            input_group_size=1,
            input_cgt=enums.CommGroupType.Consecutive,
            broadcast_buffers=True,
            device_iterations=1,
            log_dir=".",
            max_repeat_logs=4,
            auto_round_num_ipus=False,
            anchored_tensors={},
            output_mode=enums.OutputMode.Default,
            output_return_period=1,
            connection_type=enums.ConnectionType.Always.value,
            sync_pattern=enums.SyncPattern.Full.value,
            available_memory_proportion={},
            log_cycle_count=False,
            enable_synthetic_data=False,
        )
        self._popart = _PopartOptions()
        self._training = _TrainingOptions(self._popart)
        self._precision = _PrecisionOptions(self._popart)
        self._jit = _JitOptions()
        self._distributed = _DistributedOptions()
        self._tensor_locations = _TensorLocationOptions()
        self._execution_strategy: ExecutionStrategy = PipelinedExecution()
        self._first_strategy = self._execution_strategy
        self._module_namescope_enabled = True
        self._relax_optimizer_checks = False
        self._show_compilation_progress_bar = True
        self._updatable_named_buffers: List[str] = []
        self._source_location_excludes: List[str] = []
        for variable, apply in (
            ("POPTORCH_CACHE_DIR", self.enableExecutableCaching),
            ("POPTORCH_DEFAULT_OPTIONS", self.from_json),
        ):
            text = os.environ.get(variable)
            if text:
                logger.info("%s is set: options start with %s", variable, text)
                apply(text)

    @property
    def enable_synthetic_data(self) -> bool:
        """Whether nothing is transferred or run, as `enableSyntheticData` or PopART's key says."""
        by_popart = self._popart.options.get("syntheticDataMode", 0)
        return bool(self._values["enable_synthetic_data"] or by_popart)

    # ---- sections --------------------------------------------------------------------------------

    @property
    def Training(self) -> _TrainingOptions:
        """Gradient accumulation and reduction."""
        return self._training

    @property
    def Precision(self) -> _PrecisionOptions:
        """Half precision on the device."""
        return self._precision

    @property
    def Jit(self) -> _JitOptions:
        """Deprecated."""
        return self._jit

    @property
    def Distributed(self) -> _DistributedOptions:
        """Which process of how many."""
        return self._distributed

    @property
    def TensorLocations(self) -> _TensorLocationOptions:
        """Where tensors live."""
        return self._tensor_locations

    @property
    def _Popart(self) -> _PopartOptions:
        return self._popart

    # ---- batches and outputs ---------------------------------------------------------------------

    def deviceIterations(self, device_iterations: int) -> Options:
        """Steps per call."""
        return self.set(device_iterations=device_iterations)

    def replicationFactor(self, replication_factor: int) -> Options:
        """Data-parallel copies of the model."""
        return self.set(replication_factor=replication_factor)

    def inputReplicaGrouping(
        self, input_group_size: int, input_group_type: enums.CommGroupType
    ) -> Options:
        """Give all replicas of a group the same input; after `replicationFactor`.

        Raises:
            ValueError: type All, or a size that does not divide the replicas.
        """
        if input_group_type is enums.CommGroupType.All:
            raise ValueError("input_group_type cannot be All")
        if input_group_type is enums.CommGroupType.NoGrouping:
            input_group_size, input_group_type = 1, enums.CommGroupType.Consecutive
        if input_group_size > self.replication_factor:
            raise ValueError(
                "input_group_size cannot be larger than replication_factor"
                f" ({input_group_size} > {self.replication_factor}; call replicationFactor first)"
            )
        if input_group_size < 1 or self.replication_factor % input_group_size != 0:
            raise ValueError(
                "input_group_size must be a factor of replication_factor"
                f" (got {input_group_size} and {self.replication_factor})"
            )
        return self.set(input_group_size=input_group_size, input_cgt=input_group_type)

    def outputMode(
        self, output_mode: enums.OutputMode, output_return_period: Optional[int] = None
    ) -> Options:
        """Which micro-batches are returned.

        Args:
            output_return_period: n of `EveryN`, only for that mode.
        """
        assert isinstance(output_mode, enums.OutputMode), (
            f"outputMode expects a poptorch.OutputMode, got {type(output_mode)}"
        )
        return self.set(
            output_mode=output_mode,
            output_return_period=_return_period(output_mode, output_return_period),
        )

    def defaultOutputMode(self) -> bool:
        """True while no output mode was chosen."""
        return self.output_mode is enums.OutputMode.Default

    def anchorTensor(
        self,
        short_name: str,
        long_name: str,
        output_mode: Optional[enums.OutputMode] = None,
        output_return_period: Optional[int] = 1,
    ) -> Options:
        """Keep an intermediate tensor after each call, for `getAnchoredTensor(short_name)`.

        Stored as [long name, whether the global mode applies, mode, period].
        """
        follows_global = output_mode is None
        if output_mode is None:
            output_mode, period = self.output_mode, self.output_return_period
        else:
            period = _return_period(output_mode, output_return_period)
        anchored = dict(self.anchored_tensors)
        anchored[short_name] = [long_name, follows_global, output_mode, period]
        return self.set(anchored_tensors=anchored)

    def broadcastBuffers(self, broadcast_buffers: bool = True) -> Options:
        """Whether buffers written in `forward` must stay equal on all replicas."""
        return self.set(broadcast_buffers=broadcast_buffers)

    def updatableNamedBuffers(self, buffers: List[str]) -> Options:
        """Buffers that `copyNamedBuffersToDevice` updates; names as in `named_buffers()`."""
        self._updatable_named_buffers = list(buffers)
        return self

    def randomSeed(self, random_seed: int) -> Options:
        """Seed the device's random numbers, PyTorch's, and distributed shuffling."""
        assert isinstance(random_seed, int), f"randomSeed expects an int, got {type(random_seed)}"
        self.createOrSet(random_seed=random_seed)
        torch.manual_seed(random_seed)
        return self

    # ---- stages and devices ----------------------------------------------------------------------

    def setExecutionStrategy(self, strategy: ExecutionStrategy) -> Options:
        """How stages run: pipelined, sharded or in phases."""
        assert isinstance(strategy, ExecutionStrategy), (
            "setExecutionStrategy expects one of poptorch.PipelinedExecution, ShardedExecution,"
            f" SerialPhasedExecution, ParallelPhasedExecution; got {type(strategy)}"
        )
        self._execution_strategy = strategy
        return self

    def setAvailableMemoryProportion(
        self, available_memory_proportion: Dict[str, float]
    ) -> Options:
        """Part of each IPU's memory for temporaries: {"IPU0": 0.3}. Stored by number of IPU."""
        assert isinstance(available_memory_proportion, dict), (
            "setAvailableMemoryProportion expects a dict such as {'IPU0': 0.3},"
            f" got {type(available_memory_proportion)}"
        )
        for key in available_memory_proportion:
            assert isinstance(key, str) and key.startswith("IPU") and key[3:].isdigit(), (
                f"Available memory proportions are for IPUs named 'IPU0', 'IPU1', ...; got {key!r}"
            )
        by_ipu = {int(key[3:]): part for key, part in available_memory_proportion.items()}
        return self.set(available_memory_proportion=by_ipu)

    def autoRoundNumIPUs(self, auto_round_num_ipus: bool = True) -> Options:
        """Reserve the next power of two when the model uses another number of IPUs."""
        return self.set(auto_round_num_ipus=auto_round_num_ipus)

    def connectionType(self, connection_type: enums.ConnectionType) -> Options:
        """When the executor attaches to a device."""
        assert isinstance(connection_type, enums.ConnectionType), (
            f"connectionType expects a poptorch.ConnectionType, got {type(connection_type)}"
        )
        return self.set(connection_type=connection_type.value)

    def syncPattern(self, sync_pattern: enums.SyncPattern) -> Options:
        """How IPUs synchronise; hardware only."""
        assert isinstance(sync_pattern, enums.SyncPattern), (
            f"syncPattern expects a poptorch.SyncPattern, got {type(sync_pattern)}"
        )
        return self.set(sync_pattern=sync_pattern.value)

    def useIpuId(self, ipu_id: int) -> Options:
        """Use this device."""
        assert isinstance(ipu_id, int), f"useIpuId expects an int, got {type(ipu_id)}"
        return self.createOrSet(ipu_id=ipu_id)

    def useIpuModel(self, use_model: bool) -> Options:
        """Simulate the device."""
        return self.createOrSet(use_model=use_model)

    def useOfflineIpuTarget(self, ipu_version: int = 2) -> Options:
        """Compile only, without a device; also sets the connection type to Never."""
        self.connectionType(enums.ConnectionType.Never)
        return self.createOrSet(ipu_version=ipu_version)

    # ---- compilation -----------------------------------------------------------------------------

    def enableExecutableCaching(self, path: Optional[str]) -> Options:
        """Keep executables in that directory, which is made when needed; None or "" for none."""
        if path:
            assert not os.path.exists(path) or (os.path.isdir(path) and os.access(path, os.W_OK)), (
                f"enableExecutableCaching expects a directory that can be written, got {path}"
            )
        self._popart.set("enableEngineCaching", bool(path))
        self._popart.set("cachePath", path or "")
        return self

    def enableSyntheticData(self, enable_synthetic_data: Union[bool, int]) -> Options:
        """Transfer no data; outputs are zeros.

        Args:
            enable_synthetic_data: or a number of `popart.SyntheticDataMode`, of which 0 is off.
        """
        assert isinstance(enable_synthetic_data, int), (
            f"enableSyntheticData expects a bool, got {type(enable_synthetic_data)}"
        )
        return self.set(enable_synthetic_data=bool(enable_synthetic_data))

    def enableProfiling(self, profile_dir: Optional[str] = None) -> Options:
        """Ask the engine for a profile, in `profile_dir` if given."""
        engine = dict(self._popart.options.get("engineOptions", {}))
        engine["autoReport.all"] = "true"
        if profile_dir is not None:
            engine["autoReport.directory"] = profile_dir
        self._popart.set("engineOptions", engine)
        return self

    def enableStableNorm(self, enabled: bool) -> Options:
        """Two-pass variance in normalisation layers."""
        assert isinstance(enabled, bool), f"enableStableNorm expects a bool, got {type(enabled)}"
        self._popart.set("enableStableNorm", enabled)
        return self

    def modelName(self, name: str) -> Options:
        """Name of the model in reports."""
        assert isinstance(name, str), f"modelName expects a str, got {type(name)}"
        return self.createOrSet(model_name=name)

    def disableModuleNamescope(self) -> Options:
        """Leave module names out of operator names."""
        self._module_namescope_enabled = False
        return self

    def relaxOptimizerAttributesChecks(self, relax: bool = True) -> Options:
        """Tell unexpected optimizer attributes in debug lines instead of warnings."""
        assert isinstance(relax, bool), (
            f"relaxOptimizerAttributesChecks expects a bool, got {type(relax)}"
        )
        self._relax_optimizer_checks = relax
        return self

    # ---- logs ------------------------------------------------------------------------------------

    def logDir(self, log_dir: str) -> Options:
        """Where log files go."""
        return self.set(log_dir=log_dir)

    def maxRepeatLogs(self, max_lines: Optional[int]) -> Options:
        """Repeats of one line in the log; None for no limit."""
        assert max_lines is None or isinstance(max_lines, int), (
            f"maxRepeatLogs expects an int or None, got {type(max_lines)}"
        )
        self._replace("max_repeat_logs", max_lines)
        return self

    def logCycleCount(self, log_cycle_count: bool) -> Options:
        """Count device cycles of each call."""
        return self.set(log_cycle_count=log_cycle_count)

    def showCompilationProgressBar(self, show: bool = True) -> Options:
        """Show progress while compiling, and keep the time for `compilationTime()`."""
        assert isinstance(show, bool), (
            f"showCompilationProgressBar expects a bool, got {type(show)}"
        )
        self._show_compilation_progress_bar = show
        return self

    def sourceLocationExcludes(self, excludes: List[str]) -> Options:
        """Source files that are never named as the origin of an operator; replaces the list."""
        self._source_location_excludes = list(excludes)
        return self

    def appendToLocationExcludes(self, *excludes: str) -> Options:
        """As `sourceLocationExcludes`, in addition."""
        self._source_location_excludes = self._source_location_excludes + list(excludes)
        return self

    # ---- the object ------------------------------------------------------------------------------

    def from_json(self, string: str) -> Options:
        """Call the methods that a JSON object names: {"Training.gradientAccumulation": 8}.

        A value is one argument or a list of arguments; "OutputMode.All" means the enumeration.
        """
        from_text.apply_json(self, string)
        return self

    def loadFromFile(self, filepath: Union[str, os.PathLike[str]]) -> Options:
        """Make the calls that the lines of a file name: `Training.gradientAccumulation(8)`.

        Raises:
            poptorch.ConfigFileError: a line that is no such call, or whose call fails.
        """
        from_text.apply_file(self, filepath)
        return self

    def toDict(self) -> Dict[str, Any]:
        """All settings in one flat dictionary.

        Raises:
            AssertionError: the output mode is still Default, or `_Popart.set` was given a key of
                PopTorch's own.
        """
        assert not self.defaultOutputMode(), "An output mode must be picked before serialisation"
        merged: Dict[str, Any] = {}
        for part in (
            self._values,
            self._training.toDict(),
            self._precision.toDict(),
            self._distributed.toDict(),
            self._tensor_locations.toDict(),
            self._execution_strategy.backendOptions(),
            self._popart.toDict(),
        ):
            common = sorted(set(merged) & set(part))
            assert not common, (
                f"Can't merge dictionaries, they have some keys in common: {common}."
                " What PopTorch has a method for is not set through _Popart"
            )
            merged.update(part)
        return merged

    def clone(self) -> Options:
        """An independent copy that is not frozen."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        lines = [f"{key}={value!r}" for key, value in sorted(self._values.items())]
        lines.append(f"execution_strategy={self._execution_strategy!r}")
        for name in ("Training", "Precision", "Jit", "Distributed", "TensorLocations", "_Popart"):
            lines.append(f"{name}={getattr(self, name)!r}")
        inner = ",\n".join(lines).replace("\n", "\n  ")
        return f"Options(\n  {inner}\n)"

    def _freeze(self) -> None:
        for section in (
            self._training,
            self._precision,
            self._jit,
            self._distributed,
            self._tensor_locations,
            self._popart,
        ):
            section._freeze()
        super()._freeze()


def _return_period(mode: enums.OutputMode, period: Optional[int]) -> int:
    if mode is enums.OutputMode.EveryN:
        assert isinstance(period, int) and period > 0, (
            "OutputMode.EveryN needs output_return_period to be a valid positive number,"
            f" got {period}"
        )
        return period
    if period not in (None, 1):
        logger.info("output_return_period=%s is only read for OutputMode.EveryN", period)
    return 1
