"""`poptorch.Options` and its sections."""

from ..errors import ConfigFileError
from .options import Options
from .options_dict import OptionsDict
from .popart import _PopartOptions
from .sections import _DistributedOptions, _JitOptions, _PrecisionOptions, _TrainingOptions
from .tensor_locations import TensorLocationSettings, _TensorLocationOptions

__all__ = [
    "ConfigFileError",
    "Options",
    "OptionsDict",
    "TensorLocationSettings",
    "_DistributedOptions",
    "_JitOptions",
    "_PopartOptions",
    "_PrecisionOptions",
    "_TensorLocationOptions",
    "_TrainingOptions",
]
