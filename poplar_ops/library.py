"""The compiled library: found, loaded, and entered into torch.

How a CPU tensor reaches an operator, best first; `backend()` says which way is in use:

    stable-c  torch's dispatcher calls the library through libtorch's stable C functions (2.10)
    ctypes    torch's dispatcher calls Python, Python calls the library
    torch     plain torch operations (`plain.py`): there is no library, or it does not load

`DETECTORS_OPS=auto|stable-c|ctypes|torch` asks for one of them, and
`DETECTORS_SIMD=avx512|avx2|baseline` for an instruction set below the CPU's best.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import Any, Callable, Optional, Tuple, Union

import torch
from torch import Tensor

__all__ = ["backend", "define", "run", "set_simd", "simd"]

PATH = Path(__file__).with_name("_host.so")
CHOICES = ("auto", "stable-c", "ctypes", "torch")
SIMD_LEVELS = ("baseline", "avx2", "avx512")  # in the order of the library's numbers
LOG = logging.getLogger(__name__)

MAX_DIM = 4
DTYPES = {torch.float32: 1, torch.int32: 2, torch.float16: 3, torch.bfloat16: 4}
OUT_OF_MEMORY = 2


class TensorView(ctypes.Structure):
    """A tensor as the library takes it; the layout of `csrc/host/tensor.h`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("dim", ctypes.c_int32),
        ("size", ctypes.c_int64 * MAX_DIM),
        ("stride", ctypes.c_int64 * MAX_DIM),
    )


def load(path: Path) -> Tuple[Optional[ctypes.CDLL], str]:
    """Load the library, or say why that is impossible."""
    if not path.is_file():
        return None, f"{path} does not exist"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"{path} does not load: {error}"
    library.poplar_ops_error.restype = ctypes.c_char_p
    library.poplar_ops_find_torch.argtypes = [ctypes.c_void_p]
    return library, ""


def find_stable_c(library: ctypes.CDLL) -> bool:
    """Whether this torch has the stable C functions that the library registers through."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).parent / "lib" / name
        if path.is_file():
            handle = ctypes.CDLL(str(path))._handle
            return bool(library.poplar_ops_find_torch(handle) == 0)
    return False


def choose(choice: str) -> Tuple[str, Optional[ctypes.CDLL]]:
    """The way to run operators on CPU tensors, and the library unless that is "torch".

    Args:
        choice: value of `DETECTORS_OPS`.

    Raises:
        ValueError: `choice` is not one of `CHOICES`.
        RuntimeError: the way that was asked for is not possible here.
    """
    if choice not in CHOICES:
        raise ValueError(f"DETECTORS_OPS must be one of {', '.join(CHOICES)}, got '{choice}'")
    if choice == "torch":
        return "torch", None
    library, reason = load(PATH)
    if library is None:
        if choice != "auto":
            raise RuntimeError(f"DETECTORS_OPS={choice}, but {reason}; {HOW_TO_BUILD}")
        LOG.warning(
            "no compiled operators (%s): roi_align, nms and topk_select run in plain torch, ten"
            " times slower or more; %s",
            reason,
            HOW_TO_BUILD,
        )
        return "torch", None
    if choice != "ctypes" and find_stable_c(library):
        return "stable-c", library
    if choice == "stable-c":
        raise RuntimeError(
            f"DETECTORS_OPS=stable-c needs torch 2.10 or later, this is {torch.__version__};"
            " use DETECTORS_OPS=auto"
        )
    return "ctypes", library


HOW_TO_BUILD = (
    "to build them, install a C++17 compiler and run `pip install .`"
    " (in a clone: `pip install -e .`)"
)
BACKEND, LIBRARY = choose(os.environ.get("DETECTORS_OPS", "auto"))
Autograd = Tuple[Callable[..., None], Callable[..., Any]]
OPERATORS: Any = torch.library.Library("poplar_ops", "DEF")  # type: ignore[no-untyped-call]


def backend() -> str:
    """How operators run on CPU tensors: "stable-c", "ctypes" or "torch"."""
    return BACKEND


def define(
    name: str,
    schema: str,
    *,
    compiled: Callable[..., Any],
    plain: Callable[..., Any],
    fake: Callable[..., Any],
    in_python: bool = False,
    autograd: Optional[Autograd] = None,
) -> None:
    """Define `torch.ops.poplar_ops.<name>`.

    Args:
        name: the operator; the library's entry point is `poplar_ops_<name>`.
        schema: arguments and results in torch's notation.
        compiled: calls the library through `run`.
        plain: the same in torch operations without host synchronisation; for CUDA tensors, and
            for CPU tensors where there is no library.
        fake: shapes and dtypes of the results, for tracing.
        in_python: call `compiled` on every backend that has the library; for operators that
            allocate in Python and whose work outweighs the call.
        autograd: `setup_context(ctx, inputs, output)` and `backward(ctx, grad)`, as of
            `torch.library.register_autograd`; without it no gradient flows.
    """
    OPERATORS.define(name + schema)
    if BACKEND == "stable-c" and not in_python:
        assert LIBRARY is not None
        if LIBRARY.poplar_ops_register(name.encode()) != 0:
            raise RuntimeError(f"torch {torch.__version__} refused the operator poplar_ops::{name}")
    else:
        OPERATORS.impl(name, plain if BACKEND == "torch" else compiled, "CPU")
    OPERATORS.impl(name, plain, "CUDA")
    if hasattr(torch.library, "register_fake"):
        torch.library.register_fake(f"poplar_ops::{name}", fake, lib=OPERATORS)
    else:
        OPERATORS.impl(name, fake, "Meta")
    if autograd is not None:
        define_autograd(name, *autograd)


def define_autograd(
    name: str, setup_context: Callable[..., None], backward: Callable[..., Any]
) -> None:
    """Let gradients flow through `torch.ops.poplar_ops.<name>`."""
    if hasattr(torch.library, "register_autograd"):
        torch.library.register_autograd(
            f"poplar_ops::{name}", backward, setup_context=setup_context, lib=OPERATORS
        )
        return
    operator = getattr(torch.ops.poplar_ops, name)

    def forward(*inputs: Any) -> Any:
        guard = torch._C._AutoDispatchBelowAutograd()  # no context manager in torch 2.0
        try:
            return operator(*inputs)
        finally:
            del guard

    members = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
    }
    function: Any = type(name, (torch.autograd.Function,), members)
    OPERATORS.impl(name, function.apply, "Autograd")


def run(entry_point: str, *arguments: Union[Tensor, ctypes.Structure]) -> None:
    """Call an entry point of the library.

    Raises:
        RuntimeError: the library refuses a tensor's shape, dtype or strides.
        MemoryError: it cannot allocate its buffers.
    """
    assert LIBRARY is not None, "the torch backend does not call the library"
    views = [view(a) if isinstance(a, Tensor) else a for a in arguments]
    code = LIBRARY[entry_point](*[ctypes.byref(v) for v in views], torch.get_num_threads())
    if code == OUT_OF_MEMORY:
        raise MemoryError(entry_point)
    if code != 0:
        raise RuntimeError(LIBRARY.poplar_ops_error().decode())


def view(tensor: Tensor) -> TensorView:
    """Describe a tensor to the library, which checks it."""
    sizes, strides = tensor.shape[:MAX_DIM], tensor.stride()[:MAX_DIM]
    return TensorView(
        tensor.data_ptr(),
        DTYPES.get(tensor.dtype, 0),
        tensor.dim(),
        (ctypes.c_int64 * MAX_DIM)(*sizes),
        (ctypes.c_int64 * MAX_DIM)(*strides),
    )


def simd() -> str:
    """Instruction set that the library uses: "baseline", "avx2", "avx512", or "" without it."""
    return SIMD_LEVELS[LIBRARY.poplar_ops_simd()] if LIBRARY is not None else ""


def set_simd(level: str) -> None:
    """Use a given instruction set from now on, in all threads.

    Raises:
        ValueError: no such level.
        RuntimeError: the CPU does not have it, or there is no library.
    """
    if level not in SIMD_LEVELS:
        raise ValueError(f"DETECTORS_SIMD must be one of {', '.join(SIMD_LEVELS)}, got '{level}'")
    if LIBRARY is None:
        raise RuntimeError(f"DETECTORS_SIMD={level}, but the compiled operators are not in use")
    if LIBRARY.poplar_ops_set_simd(SIMD_LEVELS.index(level)) != 0:
        raise RuntimeError(f"this CPU does not have {level}; its best is {simd()}")


if "DETECTORS_SIMD" in os.environ:
    set_simd(os.environ["DETECTORS_SIMD"])
