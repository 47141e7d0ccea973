"""What watches one captured `forward`: two torch modes that count, place and refuse operators.

The function mode sees torch functions as the user calls them (reads of values, device moves,
factories); the dispatch mode sees the operators they become, above the fake tensors that compute
shapes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from .._logging import logger
from ..blocks.stage_resolver import Placement, StageResolver
from ..errors import Error, compiler_error
from ..ops.overlap import OverlapRecord
from ..provenance import in_a_distribution, user_line
from ..tensors import half, names
from ..tensors.operands import is_view, tensors_in, without_number
from . import limits, operators
from .loss import LossFinder
from .operators import Use
from .refusals import check_dtype, check_not_empty, host_read, refusal
from .stages import StageRecorder

_NO_SHAPE = (
    UnsupportedFakeTensorException,
    NotImplementedError,
    # Since torch 2.1; before it NotImplementedError said the same.
    getattr(fake_tensor, "UnsupportedOperatorException", NotImplementedError),
)
_EMPTY = frozenset(["aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"])
_UNSEEN = frozenset(["detach"])  # bookkeeping that some torch versions show
_COMPUTES_SHAPE = ("Meta", "CompositeImplicitAutograd", "CompositeExplicitAutograd")


class Recorder:
    """Everything learned from one capture; blocks and PopTorch's own ops report to it as well."""

    def __init__(
        self, mode: FakeTensorMode, resolver: StageResolver, weights: Dict[int, int]
    ) -> None:
        """Make a recorder.

        Args:
            mode: the fake tensors that operators run on.
            resolver: follows blocks.
            weights: bytes of each parameter and buffer by `id` of its fake tensor.
        """
        self.mode = mode
        self.operators: Dict[str, int] = {}
        self.unsupported: Dict[str, Use] = {}
        self.stages = StageRecorder()
        self.resolver = resolver
        self.depends_on_layout = False
        self.uses_half = False
        self.uses_random = False
        self.names_ipu = False
        self.calling: Optional[str] = None
        """The torch function that the user is calling."""
        self.intercepted: Optional[str] = None
        """That function, if PopTorch takes it before it is made of others."""
        self.weights = weights
        self.overlaps = OverlapRecord()
        self.multi_conv = False
        self.losses: Optional[LossFinder] = None
        """Follows losses; None in inference."""
        self.devices: Set[int] = set()  # `id` of devices read from tensors
        self._alive: List[Any] = []  # their owners, and tagged tensors
        self._pool_indices: Dict[int, str] = {}
        self._numbers: Dict[int, int] = {}
        self._strided: Set[int] = set()
        self._varying: Set[int] = set()

    def record(self, name: str) -> None:
        """Count an operator that the dispatcher does not show, e.g. a custom one."""
        self._count(name)
        self.stages.enter(self._placement()).operators += 1

    def begin_block(self, user_id: Optional[str], ipu_id: Optional[int]) -> None:
        """Enter a block."""
        try:
            self.resolver.begin(user_id, ipu_id)
        except Error as error:
            raise refusal(error.message) from error

    def end_block(self) -> None:
        """Leave the active block."""
        self.resolver.end()

    def use_auto_id(self) -> None:
        """Restart automatic block ids."""
        self.resolver.use_auto_id()

    def next_auto_id(self) -> str:
        """The next automatic block id."""
        return self.resolver.next_auto_id()

    def number(self, tensor: torch.Tensor) -> int:
        """The number of a tensor, given when it is asked for first."""
        self._alive.append(tensor)
        return self._numbers.setdefault(id(tensor), len(self._numbers) + 1)

    def uses(self, name: str) -> int:
        """How often an operator was used so far."""
        return self.operators.get(name, 0)

    def varies(self, tensor: torch.Tensor) -> None:
        """Mark an input, parameter or buffer: what is made from it is no constant."""
        self._varying.add(id(tensor))
        self.watch(tensor)

    def watch(self, tensor: torch.Tensor) -> None:
        """Remember a device tensor: its half dtype, and the device object it hands out."""
        self._alive.append(tensor)
        device = getattr(tensor, "fake_device", None)
        if device is not None:
            self.devices.add(id(device))
        if tensor.dtype == torch.float16:
            self.uses_half = True

    def operator(self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        """Check, run on fake tensors and count one dispatched operator."""
        name: str = func._schema.name
        namespace, _, short = name.partition("::")
        if namespace == "prim":
            return func(*args, **kwargs)
        if self.overlaps.passing:
            output = func(*args, **kwargs)
            self.varies(output)
            return output
        arguments = _by_name(func, args, kwargs)
        if short in _UNSEEN:
            outputs = func(*args, **kwargs)
            self._check_outputs(name, tensors_in(args), tensors_in([outputs]), arguments)
            return outputs
        if name == "aten::index_put_" and arguments["values"].dim() == 0:
            # Indexing in C++ makes the scalar beside the dispatcher, so it is no fake tensor.
            value = self._as_fake(arguments["values"])
            args, arguments = (*args[:2], value, *args[3:]), {**arguments, "values": value}
        read = tensors_in([*args, *kwargs.values()])
        if any(type(value) is torch.Tensor for value in read) and in_a_distribution():
            args = tuple(self._as_fake(a) if isinstance(a, torch.Tensor) else a for a in args)
            read, arguments = tensors_in([*args, *kwargs.values()]), _by_name(func, args, kwargs)
        views = is_view(func)
        self._check_inputs(name, read, arguments, is_view=views)
        self.overlaps.read(read)
        outputs = self._infer(name, func, args, kwargs)
        written = tensors_in([outputs])
        self._check_outputs(name, read, written, arguments)
        if views and id(read[0]) in self._pool_indices:
            self._pool_indices.update(
                {id(view): self._pool_indices[id(read[0])] for view in written}
            )
        self._count(self._listed_name(name))
        namer = names.current()
        if namer is not None:
            namer.operator(name, args, written)
        if self.resolver.active is not None or not views:
            self.stages.add(self._placement(), read, written, self.weights)
        return outputs

    def used(self, tensor: torch.Tensor) -> None:
        """Refuse a tensor that may not be read: called for inputs of operators and for results."""
        location = self._pool_indices.get(id(tensor))
        if location is not None:
            message = "max_pool: the indices output is not supported, only the pooled values"
            raise refusal(message, location)

    def _as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.mode.from_tensor(tensor)

    def _check_inputs(
        self, name: str, read: Sequence[torch.Tensor], arguments: Dict[str, Any], *, is_view: bool
    ) -> None:
        if name in limits.HOST_READS:
            raise host_read(name.partition("::")[2])
        if name in limits.DATA_DEPENDENT:
            raise refusal(f"{name}: the output shape is determined by the tensor values")
        # A tensor that no torch function of the user's makes comes from NumPy or a legacy class.
        lifted = name == "aten::lift_fresh" and self.calling is not None
        for tensor in read:
            if not isinstance(tensor, FakeTensor) and not lifted:
                raise refusal(
                    "Expected an IPU tensor but got tensor(device=cpu,"
                    f" shape={list(tensor.shape)}, dtype={tensor.dtype}) in {name}: register it as"
                    " a buffer, or make it in forward on the device of an input"
                )
            if not is_view:  # max_pool1d itself takes views of the indices
                self.used(tensor)
            check_not_empty(tensor)
        problem = limits.check_operator(name, arguments)
        if name == "aten::triu" and id(arguments["self"]) in self._varying:
            problem = "triu is supported on constants only: keep the mask as a buffer and multiply"
        if name.endswith("_") and id(arguments.get("self")) in self._strided:
            problem = f"{name} in place on a slice with step other than 1 is not supported"
        if problem is not None:
            raise refusal(problem)

    def _infer(self, name: str, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        listed = operators.is_supported(name)
        if not name.startswith(("aten::", "prims::")) and not _computes_shape(func.name()):
            raise refusal(f"Type inference failed for {name}: it has no fake (shape) function")
        self.mode.allow_fallback_kernels = listed  # others must not compute on made-up values
        func, args = without_number(func, args)
        try:
            return _on_fakes(func, args, kwargs)
        except DataDependentOutputException as error:
            raise host_read(name.partition("::")[2]) from error
        except (DynamicOutputShapeException, *_NO_SHAPE) as error:
            if not listed and self.intercepted is None:
                self.unsupported.setdefault(name, Use(name, user_line()))
                uses = list(self.unsupported.values())
                raise compiler_error(operators.refusal(uses), user_line()) from error
            if isinstance(error, DynamicOutputShapeException):
                text = f"{name}: the output shape is determined by the tensor values"
            else:
                text = f"Type inference failed for {name}: {error}"
            raise refusal(text) from error

    def _check_outputs(
        self,
        name: str,
        read: Sequence[torch.Tensor],
        written: Sequence[torch.Tensor],
        arguments: Dict[str, Any],
    ) -> None:
        if self.losses is not None:
            self.losses.follow(read, written)
        varies = any(id(tensor) in self._varying for tensor in read)
        if read and id(read[0]) in self._pool_indices:  # a view: anything else was refused
            for tensor in written:
                self._pool_indices[id(tensor)] = self._pool_indices[id(read[0])]
        for position, tensor in enumerate(written):
            check_dtype(tensor.dtype)
            if position == 0 and name not in _EMPTY:
                check_not_empty(tensor)
            self.watch(tensor)
            if varies:
                self._varying.add(id(tensor))
        if name.startswith("aten::max_pool") and len(written) == 2:
            self._pool_indices[id(written[1])] = user_line()
        if name == "aten::slice" and arguments.get("step", 1) != 1:
            self._strided.add(id(written[0]))
        if name == "aten::avg_pool2d" and arguments.get("divisor_override") is not None:
            logger.warning("avg_pool2d: divisor_override is ignored on the IPU (%s)", user_line())
        if name in limits.RANDOM:
            self.uses_random = True

    def _count(self, name: str) -> None:
        self.operators[name] = self.operators.get(name, 0) + 1

    def _listed_name(self, name: str) -> str:
        """The operator, or the composite that PopTorch intercepts before it becomes this one."""
        if operators.is_supported(name):
            return name
        if self.intercepted is not None:
            return self.intercepted
        if name not in self.unsupported:
            self.unsupported[name] = Use(name, user_line())
        return name

    def _placement(self) -> Placement:
        try:
            return self.resolver.current()
        except Error as error:
            raise refusal(error.message) from error


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as half.py
    """Hands dispatched operators to the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        with torch._C.DisableTorchFunction():
            return self._recorder.operator(func, args, kwargs or {})


def _on_fakes(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    """Call an operator; in float32 where its shape comes of a kernel that does not know half."""
    try:
        return func(*args, **kwargs)
    except RuntimeError as error:
        if "not implemented for 'Half'" not in str(error):
            raise
        return half.in_float32(func, args, kwargs)


def _by_name(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    names, defaults = _signature(func)
    values = {**defaults, **kwargs}
    values.update(zip(names, args))
    return values


@lru_cache(maxsize=None)
def _signature(func: Any) -> Tuple[List[str], Dict[str, Any]]:
    """Names of an operator's arguments, and the values of those left out."""
    arguments = func._schema.arguments
    defaults = {a.name: a.default_value for a in arguments if a.has_default_value()}
    return [argument.name for argument in arguments], defaults


def _computes_shape(name: str) -> bool:
    if any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in _COMPUTES_SHAPE):
        return True
    registry = getattr(getattr(torch, "_library", None), "simple_registry", None)
    if registry is None:  # before torch 2.2: fake functions are Meta kernels
        return False
    return registry.singleton.find(name).fake_impl.kernel is not None
