"""How a model runs on the IPU: the settings of `recipes/infer/*.yaml`, and what they are in
PopTorch.

`recipes/infer/<model>_throughput.yaml` and `..._low-latency.yaml` are those of Graphcore's
EfficientDet example. Off the IPU most of them change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Sequence

from detectors.experiment.structured import fill_schema, find_recipe

if TYPE_CHECKING:
    from poplar_ops.runtime import poptorch

__all__ = ["RECIPES", "InferenceSettings", "load_settings", "poptorch_options"]

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "infer"


class Partials(Enum):
    """Precision of the sums inside convolutions."""

    float = "float"
    half = "half"


class Exchange(Enum):
    """What the compiler optimises the exchange between tiles for."""

    default = "default"
    memory = "memory"
    balanced = "balanced"
    cycles = "cycles"


class Connection(Enum):
    """When a device is attached; `never` compiles without one."""

    always = "always"
    on_demand = "on_demand"
    never = "never"


@dataclass
class InferenceSettings:
    """One run's settings; unfrozen because OmegaConf fills it, and not changed after that."""

    micro_batch_size: int = 1
    """Images per pass through the network."""
    device_iterations: int = 1
    """Passes per call of the executor; never more than there are images for."""
    replication_factor: int = 1
    """Copies of the model, one IPU each."""
    precision: str = "half"
    """Of weights and activations on the IPU: fp32 or half."""
    partials: Partials = Partials.half
    """Precision of the sums inside convolutions and matrix products."""
    available_memory_proportion: float = 0.6
    """Share of tile memory that convolutions may use for temporary data, 0..1."""
    io_tiles: int = 0
    """Tiles that only move data, 32..192 and even, so that copies and compute overlap; 0 = none."""
    prefetch_depth: int = 1
    """Batches the host prepares ahead."""
    convolution_dithering: bool = False
    """Start the layout of each convolution at another tile."""
    exchange_target: Exchange = Exchange.default
    """What the compiler optimises the exchange for."""
    connection: Connection = Connection.on_demand
    """When the device is attached."""
    executable_cache: str = ""
    """Folder of compiled executables; empty = no cache."""
    profile_dir: str = ""
    """Folder for PopVision's reports; empty = none."""
    synthetic_data: bool = False
    """No copies between host and device; results mean nothing."""
    engine_options: Dict[str, str] = field(
        default_factory=lambda: {
            "streamCallbacks.multiThreadMode": "collaborative",
            "streamCallbacks.numWorkerThreads": "6",
            "streamCallbacks.maxLookahead": "unlimited",
        }
    )
    """Poplar's, passed on as they are."""

    def __post_init__(self) -> None:
        for name in (
            "micro_batch_size",
            "device_iterations",
            "replication_factor",
            "prefetch_depth",
        ):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.io_tiles and (not 32 <= self.io_tiles <= 192 or self.io_tiles % 2):
            raise ValueError(
                f"io_tiles must be 0 or an even number in 32..192, got {self.io_tiles}"
            )
        if not 0 < self.available_memory_proportion <= 1:
            raise ValueError(
                "available_memory_proportion must be over 0 and at most 1,"
                f" got {self.available_memory_proportion}"
            )
        if self.precision not in ("fp32", "half"):
            raise ValueError(f"precision must be fp32 or half, got '{self.precision}'")


def load_settings(model: str, config: str, overrides: Sequence[str] = ()) -> InferenceSettings:
    """The settings that a person asked for.

    Args:
        model: `efficientdet-d0`.
        config: `throughput`, `low-latency`, or the path of a YAML file.
        overrides: `key=value`.

    Raises:
        ValueError: no such recipe, key or value.
        FileNotFoundError: no such file.
    """
    if config.endswith((".yaml", ".yml")):
        path = Path(config)
    else:
        path = find_recipe(RECIPES, config, "--config", prefix=f"{model}_")
    return fill_schema(InferenceSettings, path, overrides)


def poptorch_options(settings: InferenceSettings) -> poptorch.Options:
    """PopTorch's options of one run."""
    from poplar_ops.runtime import poptorch

    options = poptorch.Options()
    options.deviceIterations(settings.device_iterations)
    options.replicationFactor(settings.replication_factor)
    options.outputMode(poptorch.OutputMode.All)
    options.setAvailableMemoryProportion({"IPU0": settings.available_memory_proportion})
    # PopTorch keeps partials and dithering in one dictionary and replaces it whole in each setter:
    # Precision.setPartialsType and Training.setConvolutionDithering would undo each other.
    convolutions = {"partialsType": settings.partials.value}
    if settings.convolution_dithering:
        convolutions["enableConvDithering"] = "true"
    options._Popart.set("convolutionOptions", convolutions)
    options._Popart.set("partialsTypeMatMuls", settings.partials.value)
    options._Popart.set("defaultPrefetchBufferingDepth", settings.prefetch_depth)
    engine = dict(settings.engine_options)
    if settings.exchange_target is not Exchange.default:
        engine["opt.internalExchangeOptimisationTarget"] = settings.exchange_target.value
    options._Popart.setEngineOptions(engine)
    if settings.io_tiles:
        options.TensorLocations.numIOTiles(settings.io_tiles)
        options.setExecutionStrategy(poptorch.ShardedExecution())  # a pipeline has no overlap
    if settings.connection is Connection.never:
        options.useOfflineIpuTarget(2)
    else:
        always = settings.connection is Connection.always
        kind = poptorch.ConnectionType
        options.connectionType(kind.Always if always else kind.OnDemand)
    if settings.executable_cache:
        options.enableExecutableCaching(settings.executable_cache)
    if settings.profile_dir:
        options.enableProfiling(settings.profile_dir)
    options.enableSyntheticData(settings.synthetic_data)
    return options
