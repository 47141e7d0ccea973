"""Which settings change nothing on a host, so that an executor can say so once."""

from __future__ import annotations

from typing import Dict, List, Tuple

from .._logging import logger, set_max_repeat_logs
from ..enums import SyncPattern
from .options import Options

_HARDWARE_ONLY: Dict[str, Tuple[str, object]] = {
    "available_memory_proportion": ("setAvailableMemoryProportion", {}),
    "sync_pattern": ("syncPattern", SyncPattern.Full),
    "log_dir": ("logDir", "."),
    "use_model": ("useIpuModel", False),
    "ipu_id": ("useIpuId", None),
    "model_name": ("modelName", None),
}
"""Key -> the method that sets it, and the default."""
_PRECISION_ONLY = {
    "enable_stochastic_rounding": "Precision.enableStochasticRounding",
    "enable_floating_point_exceptions": "Precision.enableFloatingPointExceptions",
}


def announce(options: Options) -> None:
    """At compile: apply the limit of repeated log lines, and list what has no effect here."""
    set_max_repeat_logs(options.max_repeat_logs)
    names = without_effect(options)
    if names:
        logger.info("Options without effect on a host: %s", ", ".join(names))


def without_effect(options: Options) -> List[str]:
    """Names of the settings that differ from their defaults and that no host executor reads.

    PopART's options by key, as `_Popart.set("key")`; where a method of `Options` writes one, too.
    """
    names = [
        method
        for key, (method, default) in _HARDWARE_ONLY.items()
        if options.exists(key) and options(key) != default
    ]
    precision = options.Precision
    names += [method for key, method in _PRECISION_ONLY.items() if precision(key)]
    if options.Training.auto_loss_scaling:
        names.append("Training.setAutomaticLossScaling")
    names += [f"TensorLocations: {key}" for key in options.TensorLocations.toDict()]
    names += [f'_Popart.set("{key}")' for key in options._Popart.options]
    if options._Popart.patterns:
        names.append("_Popart.setPatterns")
    return names
