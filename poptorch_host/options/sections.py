"""The sections `Training`, `Precision`, `Jit` and `Distributed` of `Options`.

Each method returns its section, not the `Options`, so calls chain within a section only.
"""

from __future__ import annotations

import os
from typing import Any, Dict

import torch

from .._logging import logger
from ..enums import HalfFloatCastingBehavior, MeanReductionStrategy, ReductionType
from .options_dict import OptionsDict
from .popart import _PopartOptions


class _TrainingOptions(OptionsDict):
    """`options.Training`."""

    gradient_accumulation: int
    """Micro-batches per weight update and replica."""
    accumulation_and_replication_reduction_type: ReductionType
    """How their gradients, and those of replicas, are reduced."""
    meanAccumulationAndReplicationReductionStrategy: MeanReductionStrategy
    """When a mean divides."""

    def __init__(self, popart_options: _PopartOptions) -> None:
        super().__init__(
            gradient_accumulation=1,
            accumulation_and_replication_reduction_type=ReductionType.Mean,
            meanAccumulationAndReplicationReductionStrategy=MeanReductionStrategy.Post,
        )
        self._popart = popart_options

    @property
    def auto_loss_scaling(self) -> bool:
        """Whether the loss scale adapts, by the method or by PopART's key."""
        return bool(self._popart.options.get("automaticLossScalingSettings.enabled", False))

    def gradientAccumulation(self, gradient_accumulation: int) -> _TrainingOptions:
        """Micro-batches per weight update and replica."""
        return self.set(gradient_accumulation=gradient_accumulation)

    def accumulationAndReplicationReductionType(
        self, reduction_type: ReductionType
    ) -> _TrainingOptions:
        """Sum or mean over accumulated micro-batches and replicas.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(reduction_type, ReductionType) or (
            reduction_type is ReductionType.NoReduction
        ):
            raise ValueError(
                "accumulationAndReplicationReductionType must be poptorch.ReductionType.Sum or"
                f" poptorch.ReductionType.Mean, got {reduction_type}"
            )
        return self.set(accumulation_and_replication_reduction_type=reduction_type)

    def setMeanAccumulationAndReplicationReductionStrategy(
        self, mean_strategy: MeanReductionStrategy
    ) -> _TrainingOptions:
        """When a mean divides.

        Raises:
            ValueError: not a `MeanReductionStrategy`.
        """
        if not isinstance(mean_strategy, MeanReductionStrategy):
            raise ValueError(
                "mean reduction strategy must be a poptorch.MeanReductionStrategy,"
                f" got {mean_strategy!r}"
            )
        if mean_strategy is MeanReductionStrategy.PostAndLoss:
            logger.warning(
                "poptorch.MeanReductionStrategy.PostAndLoss is deprecated: it is treated as"
                " poptorch.MeanReductionStrategy.Post"
            )
        return self.set(meanAccumulationAndReplicationReductionStrategy=mean_strategy)

    def setAutomaticLossScaling(self, enabled: bool) -> _TrainingOptions:
        """Adapt the loss scale on the device."""
        assert isinstance(enabled, bool), (
            f"setAutomaticLossScaling expects a bool, got {type(enabled)}"
        )
        self._popart.set("automaticLossScalingSettings.enabled", enabled)
        return self

    def setConvolutionDithering(self, enabled: bool) -> _TrainingOptions:
        """Start convolutions on different tiles. Replaces all of PopART's convolutionOptions."""
        assert isinstance(enabled, bool), f"dithering expects a bool, got {type(enabled)}"
        text = "true" if enabled else "false"
        _set_convolution_options(self._popart, {"enableConvDithering": text})
        return self


class _PrecisionOptions(OptionsDict):
    """`options.Precision`: kept for the device; nothing here changes a host's results."""

    enable_stochastic_rounding: bool
    enable_floating_point_exceptions: bool

    def __init__(self, popart_options: _PopartOptions) -> None:
        super().__init__(
            enable_stochastic_rounding=False,
            enable_floating_point_exceptions=False,
            half_float_casting=HalfFloatCastingBehavior.Default,
            running_statistics_always_float=True,
        )
        self._popart = popart_options

    def setPartialsType(self, dtype: torch.dtype) -> _PrecisionOptions:
        """Type of the partial sums of convolutions and matrix products.

        Replaces all of PopART's convolutionOptions.

        Raises:
            ValueError: neither torch.float nor torch.half.
        """
        if dtype not in (torch.float32, torch.float16):
            raise ValueError(
                "setPartialsType expects torch.float (float32) or torch.half (float16),"
                f" got {dtype}"
            )
        text = "half" if dtype is torch.float16 else "float"
        self._popart.set("partialsTypeMatMuls", text)
        _set_convolution_options(self._popart, {"partialsType": text})
        return self

    def enableStochasticRounding(self, enabled: bool) -> _PrecisionOptions:
        """Round half results up or down by chance; hardware only."""
        return self.set(enable_stochastic_rounding=enabled)

    def enableFloatingPointExceptions(self, enabled: bool) -> _PrecisionOptions:
        """Stop at overflow or invalid values; hardware only."""
        assert isinstance(enabled, bool), (
            f"enableFloatingPointExceptions expects a bool, got {type(enabled)}"
        )
        return self.set(enable_floating_point_exceptions=enabled)

    def halfFloatCasting(self, half_float_casting: HalfFloatCastingBehavior) -> _PrecisionOptions:
        """Deprecated; casts as PyTorch does."""
        logger.warning("Precision.halfFloatCasting is deprecated: casts follow PyTorch's rules")
        if not isinstance(half_float_casting, HalfFloatCastingBehavior):
            raise ValueError(
                f"halfFloatCasting expects a poptorch.HalfFloatCastingBehavior,"
                f" got {half_float_casting!r}"
            )
        return self.set(half_float_casting=half_float_casting)

    def runningStatisticsAlwaysFloat(self, value: bool) -> _PrecisionOptions:
        """Deprecated; running statistics keep their dtype.

        Raises:
            ValueError: not a bool.
        """
        logger.warning("Precision.runningStatisticsAlwaysFloat is deprecated and has no effect")
        if not isinstance(value, bool):
            raise ValueError(f"runningStatisticsAlwaysFloat must be a bool, got {value!r}")
        return self.set(running_statistics_always_float=value)


class _JitOptions(OptionsDict):
    """`options.Jit`: what is left of PopTorch's tracing frontend."""

    def traceModel(self, trace_model: bool) -> _JitOptions:
        """Deprecated; only False.

        Raises:
            ValueError: True.
        """
        if trace_model:
            raise ValueError(
                "options.Jit.traceModel(True) is no longer supported: models are captured by"
                " running forward once"
            )
        logger.warning("options.Jit.traceModel is deprecated: models are never traced")
        return self


class _DistributedOptions(OptionsDict):
    """`options.Distributed`: which process of how many this is, read from the environment."""

    def __init__(self) -> None:
        super().__init__()
        self._size_variable = "OMPI_COMM_WORLD_SIZE"
        self._rank_variable = "OMPI_COMM_WORLD_RANK"
        self._num_processes = 1
        self._process_id = 0
        self._read_environment()

    def disable(self) -> _DistributedOptions:
        """Ignore the environment: one process."""
        return self.configureProcessId(0, 1)

    def setEnvVarNames(self, var_num_processes: str, var_process_id: str) -> _DistributedOptions:
        """Read number of processes and process id from these variables, now."""
        self._size_variable = var_num_processes
        self._rank_variable = var_process_id
        self._read_environment()
        return self

    def configureProcessId(self, process_id: int, num_processes: int) -> _DistributedOptions:
        """Say which process this is."""
        assert isinstance(process_id, int) and isinstance(num_processes, int), (
            f"configureProcessId expects two ints, got {process_id!r} and {num_processes!r}"
        )
        self._process_id = process_id
        self._num_processes = num_processes
        return self

    @property
    def processId(self) -> int:
        """This process, from 0."""
        return self._process_id

    @property
    def numProcesses(self) -> int:
        """How many there are."""
        return self._num_processes

    def toDict(self) -> Dict[str, Any]:
        return {
            "num_distributed_processes": self._num_processes,
            "distributed_process_id": self._process_id,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(processId={self._process_id},"
            f" numProcesses={self._num_processes})"
        )

    def _read_environment(self) -> None:
        self._num_processes = int(os.environ.get(self._size_variable, "1"))
        self._process_id = int(os.environ.get(self._rank_variable, "0"))


def _set_convolution_options(popart_options: _PopartOptions, new: Dict[str, str]) -> None:
    """Replace the one dictionary that partials type and dithering share, as PopTorch does."""
    lost = {
        key: value
        for key, value in popart_options.options.get("convolutionOptions", {}).items()
        if key not in new
    }
    if lost:
        logger.warning(
            "convolutionOptions %s are replaced by %s, as in PopTorch. To have both, write them in"
            ' one call: options._Popart.set("convolutionOptions", {...})',
            lost,
            new,
        )
    popart_options.set("convolutionOptions", new)
