"""PopTorch's public names on stock PyTorch: models written for IPUs run on any machine.

The host runtime's own controls are in `poptorch_host.host`.
"""

from . import _impl as _impl
from . import enums, environment, optim, options, profiling, testing
from . import poptorch_core as poptorch_core
from ._logging import logger, setLogLevel
from .blocks.blocks import BeginBlock, Block, BlockFunction, removeBlocks
from .blocks.printing import module_repr, print
from .blocks.strategies import (
    ParallelPhasedExecution,
    Phase,
    PipelinedExecution,
    SerialPhasedExecution,
    ShardedExecution,
    Stage,
)
from .custom_ops import custom_op
from .enums import (
    AutoStage,
    CommGroupType,
    ConnectionType,
    DataLoaderMode,
    HalfFloatCastingBehavior,
    Liveness,
    MatMulSerializationMode,
    MeanReductionStrategy,
    MultiConvPlanType,
    OutputMode,
    OverlapMode,
    ReductionType,
    SharingStrategy,
    SyncPattern,
    VariableRetrievalMode,
)
from .errors import (
    ConfigFileError,
    Error,
    RecoverableError,
    UnrecoverableError,
    createPoptorchError,
)
from .executable.device_internals import (
    accessAttributes,
    getIpuTensorId,
    importPoptorchMetadataFromFile,
)
from .executor.compile_hooks import registerPostCompileHook, registerPreCompileHook
from .executor.executor import PoplarExecutor
from .executor.wrappers import inferenceModel, load, trainingModel
from .hardware import ipuHardwareIsAvailable, ipuHardwareVersion, isRunningOnIpu
from .loader.accessor import AsynchronousDataAccessor
from .loader.dataloader import DataLoader
from .ops import identity_loss, nop, recomputationCheckpoint, set_available_memory
from .ops.control_flow import cond, for_loop
from .ops.ctc import ctc_beam_search_decoder
from .ops.dynamic import dynamic_slice, dynamic_update
from .ops.host_call import CPU
from .ops.matmul import serializedMatMul
from .ops.multi_conv import MultiConv
from .ops.overlap import set_overlap_for_input, set_overlap_for_output
from .ops.points import fps, nearest
from .ops.print_tensor import ipu_print_tensor
from .ops.scopes import Attribute, NameScope
from .options import Options, TensorLocationSettings
from .tensors.structure import (
    ICustomArgParser,
    registerCustomArgParser,
    registerGeometricCustomArgParsers,
)
from .version import __version__

environment.prepare()

__all__ = [
    # wrappers and data
    "AsynchronousDataAccessor",
    "DataLoader",
    "Options",
    "PoplarExecutor",
    "TensorLocationSettings",
    "inferenceModel",
    "load",
    "trainingModel",
    # blocks and strategies
    "BeginBlock",
    "Block",
    "BlockFunction",
    "ParallelPhasedExecution",
    "Phase",
    "PipelinedExecution",
    "SerialPhasedExecution",
    "ShardedExecution",
    "Stage",
    "removeBlocks",
    # ops
    "CPU",
    "MultiConv",
    "cond",
    "ctc_beam_search_decoder",
    "custom_op",
    "dynamic_slice",
    "dynamic_update",
    "for_loop",
    "fps",
    "identity_loss",
    "ipu_print_tensor",
    "nearest",
    "nop",
    "recomputationCheckpoint",
    "serializedMatMul",
    "set_available_memory",
    "set_overlap_for_input",
    "set_overlap_for_output",
    # enumerations
    "AutoStage",
    "CommGroupType",
    "ConnectionType",
    "DataLoaderMode",
    "HalfFloatCastingBehavior",
    "Liveness",
    "MatMulSerializationMode",
    "MeanReductionStrategy",
    "MultiConvPlanType",
    "OutputMode",
    "OverlapMode",
    "ReductionType",
    "SharingStrategy",
    "SyncPattern",
    "VariableRetrievalMode",
    # errors
    "ConfigFileError",
    "Error",
    "RecoverableError",
    "UnrecoverableError",
    "createPoptorchError",
    # everything else
    "Attribute",
    "ICustomArgParser",
    "NameScope",
    "__version__",
    "accessAttributes",
    "getIpuTensorId",
    "importPoptorchMetadataFromFile",
    "ipuHardwareIsAvailable",
    "ipuHardwareVersion",
    "isRunningOnIpu",
    "logger",
    "module_repr",
    "print",
    "registerCustomArgParser",
    "registerGeometricCustomArgParsers",
    "registerPostCompileHook",
    "registerPreCompileHook",
    "setLogLevel",
    # modules
    "enums",
    "optim",
    "options",
    "profiling",
    "testing",
]
