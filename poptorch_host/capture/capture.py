"""Compile on the host: one run of `forward` under fake tensors.

It finds shapes, operators and stages, and refuses what the IPU would refuse.

The run sees a copy of the module tree with fake parameters and buffers; Python attributes that
`forward` sets are carried over to the user's modules, as PopTorch's single capture would set
them. What comes out is a `Program`: all that the engine must know about the model beside the
model.
"""

from __future__ import annotations

import collections.abc
import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from .. import _state
from .._logging import logger
from ..blocks.stage_resolver import Placement, StageResolver, pipeline_stages
from ..blocks.strategies import PipelinedExecution
from ..checks import check_pipeline_length
from ..errors import COMPILER, Error, compiler_error, createPoptorchError, raised_in
from ..options import Options
from ..provenance import excluding, line_that_raised
from ..tensors import names
from ..tensors.arguments import Arguments
from ..tensors.clones import Cloner
from ..tensors.structure import flatten, map_tensors, other_values, rebuild
from . import operators, stages
from .function_watch import FunctionWatch
from .guards import guard
from .loss import LossFinder
from .operators import CaptureReport
from .program import Program
from .recorder import OperatorWatch, Recorder
from .refusals import check_dtype, refusal
from .scripted import scripts_as_python

_WIDE = (torch.float64, torch.bfloat16)  # float32 on the device
_NORMS = (nn.modules.batchnorm._NormBase,)
_NORM_STATISTICS = ("running_mean", "running_var")
_INTERNAL = ("_parameters", "_buffers", "_modules")


def capture(
    model: nn.Module,
    arguments: Arguments,
    options: Options,
    *,
    report_only: bool,
    training: bool = False,
) -> Program:
    """Run `model.forward` once on fake tensors.

    Args:
        model: the executor's copy of the user's model; attributes that forward sets are set on it.
        arguments: those of one micro-batch.
        options: strategy, replicas and limits.
        report_only: log operators PopTorch does not take instead of refusing them.
        training: find the loss, and leave autograd on.

    Raises:
        poptorch.Error: whatever PopTorch would refuse, with the user's file and line.
    """
    mode = FakeTensorMode()
    cloner = Cloner(_faker(mode), isolate=True)
    copy: nn.Module = cloner.clone(model)
    weights = _tables(copy)
    names.follow_modules(copy)
    recorder = Recorder(
        mode,
        StageResolver(options._execution_strategy),
        {id(fake): fake.numel() * fake.element_size() for fake in weights.values()},
    )
    recorder.losses = LossFinder() if training else None
    for fake in weights.values():
        recorder.varies(fake)
    inputs = _fake_arguments(mode, arguments, recorder)
    recorder.overlaps.follow(inputs.tensors)
    versions = {name: fake._version for name, fake in weights.items()}
    input_versions = [tensor._version for tensor in inputs.tensors]
    constant_versions = {key: fake._version for key, fake in cloner.copies_of_attributes().items()}
    before = {name: _snapshot(module) for name, module in copy.named_modules()}

    shapes: names.Shapes = {}
    excludes = excluding(options._source_location_excludes)
    with raised_in(f"capture of {type(model).__name__}.forward"):
        with excludes, names.naming(names.listing(shapes, options)):
            result = _trace(copy, inputs, mode, recorder)
        _check_operators(recorder, report_only)
    _check_kinds(result)
    recorder.overlaps.check(flatten(result), options)
    written_constants = {
        key
        for key, fake in cloner.copies_of_attributes().items()
        if fake._version != constant_versions.get(key, fake._version)
    }
    outputs, constants = _results(result, recorder, cloner, written_constants)
    attributes = _carry_over(model, copy, before)
    placements = tuple(recorder.resolver.placements)
    _check_placements(placements, options, training)
    changed = [name for name, fake in weights.items() if fake._version != versions[name]]
    program = Program(
        outputs=outputs,
        constants=constants,
        written_inputs=tuple(
            index
            for index, tensor in enumerate(inputs.tensors)
            if tensor._version != input_versions[index]
        ),
        written_buffers=tuple(n for n in changed if weights[n].is_floating_point()),
        frozen_buffers=tuple(n for n in changed if not weights[n].is_floating_point()),
        attributes=tuple(attributes),
        writes_constants=bool(written_constants),
        uses_half=recorder.uses_half,
        uses_random=recorder.uses_random,
        names_ipu=recorder.names_ipu,
        depends_on_layout=recorder.depends_on_layout,
        checkpoints=recorder.uses("poptorch::recomputationCheckpoint"),
        loss=None if recorder.losses is None else recorder.losses.final(),
        placements=placements,
        tensors=shapes,
        report=CaptureReport(
            recorder.operators, list(recorder.unsupported.values()), recorder.stages.result()
        ),
    )
    return _with_norms(program, copy, options)


def runs_channels_last(model: nn.Module, arguments: Arguments, options: Options) -> bool:
    """Whether a model that captures well also runs with channels-last weights and inputs.

    For models that look at strides: `view` refuses what it could not do without a copy.
    """
    mode = FakeTensorMode()
    copy: nn.Module = Cloner(_faker(mode), isolate=True).clone(model)
    recorder = Recorder(mode, StageResolver(options._execution_strategy), {})
    for fake in _tables(copy).values():
        recorder.varies(fake)
    with mode:
        for module in copy.modules():
            for table in (module._parameters, module._buffers):
                table.update({name: _channels_last(value) for name, value in table.items()})
    inputs = _fake_arguments(mode, arguments, recorder, _channels_last)
    try:
        _trace(copy, inputs, mode, recorder)
    except Exception as error:
        logger.debug("channels-last does not suit this model: %s", error)
        return False
    return True


def _channels_last(tensor: Any) -> Any:
    if tensor is None or tensor.dim() != 4:
        return tensor
    return _like(tensor, tensor.detach().contiguous(memory_format=torch.channels_last))


def _trace(model: nn.Module, inputs: _Inputs, mode: FakeTensorMode, recorder: Recorder) -> Any:
    tables = guard(model)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(recorder.losses is not None))
            for context in (no_validation(), scripts_as_python(), mode):
                stack.enter_context(context)
            stack.enter_context(OperatorWatch(recorder))
            stack.enter_context(FunctionWatch(recorder))
            stack.enter_context(_state.running(recorder, recorder.losses))
            return model(*inputs.args, **inputs.kwargs)
    except Error as error:
        line = line_that_raised(error)
        if error.type != COMPILER and line:
            raise refusal(error.message, line) from error
        raise
    finally:
        for table in tables:
            table.closed = False


def _snapshot(module: nn.Module) -> Dict[str, Tuple[Any, Any]]:
    """Attributes and, of containers, what is in them."""
    return {name: (value, _contents(value)) for name, value in module.__dict__.items()}


def _contents(value: Any) -> Optional[List[Any]]:
    """What is in a container, keys of a dict first; None for anything else."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, set)) else None


def _is_unchanged(value: Any, before: Tuple[Any, Optional[List[Any]]]) -> bool:
    old, contents = before
    if value is not old or contents is None:
        return value is old
    now = _contents(value) or []
    return len(now) == len(contents) and all(new is one for new, one in zip(now, contents))


def _refill(container: Any, value: Any) -> None:
    """Give a list, dict or set the contents of another one."""
    container.clear()
    container.extend(value) if isinstance(container, list) else container.update(value)


@dataclass
class _Inputs:
    args: List[Any]
    kwargs: Dict[str, Any]
    tensors: List[torch.Tensor]


def _faker(mode: FakeTensorMode) -> Any:
    def fake(tensor: torch.Tensor) -> torch.Tensor:
        check_dtype(tensor.dtype)
        if tensor.dtype in _WIDE:
            tensor = _like(tensor, tensor.detach().float())
        if tensor.is_inference():  # such tensors do not count their changes
            tensor = _like(tensor, tensor.detach().clone())
        return mode.from_tensor(tensor.detach() if _is_result(tensor) else tensor)

    return fake


def _is_result(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad and not tensor.is_leaf


def _like(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def _tables(model: nn.Module) -> Dict[str, torch.Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _fake_arguments(
    mode: FakeTensorMode,
    arguments: Arguments,
    recorder: Recorder,
    layout: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
) -> _Inputs:
    tensors: List[torch.Tensor] = []

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        check_dtype(tensor.dtype)
        dtype = torch.float32 if tensor.dtype in _WIDE else tensor.dtype
        with mode:
            result = layout(torch.empty(tensor.shape, dtype=dtype))
        recorder.varies(result)
        tensors.append(result)
        return result

    args = [map_tensors(value, fake) for value in arguments.args]
    kwargs = {name: map_tensors(value, fake) for name, value in arguments.kwargs.items()}
    return _Inputs(args, kwargs, tensors)


@contextlib.contextmanager
def no_validation() -> Iterator[None]:
    """Distributions made in forward skip their checks of values."""
    distribution = torch.distributions.Distribution
    before = distribution._validate_args
    distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        distribution.set_default_validate_args(before)


def _check_operators(recorder: Recorder, report_only: bool) -> None:
    uses = list(recorder.unsupported.values())
    if not uses:
        return
    if not report_only:
        raise compiler_error(operators.refusal(uses), uses[0].location)
    logger.warning(operators.refusal(uses))


def _check_kinds(result: Any) -> None:
    """Refuse results that hide tensors: those would come back without values."""
    for value in other_values(result):
        inside = value if isinstance(value, (set, frozenset)) else getattr(value, "__dict__", {})
        members = flatten(list(inside.values() if isinstance(inside, dict) else inside))
        hides = any(isinstance(tensor, FakeTensor) for tensor in members)
        if hides or isinstance(value, collections.abc.Iterator):
            raise createPoptorchError(
                f"forward returned a {type(value).__name__} that holds tensors: return tensors,"
                " lists, tuples or dicts, or register the type with"
                " poptorch.registerCustomArgParser"
            )


def _results(
    result: Any, recorder: Recorder, cloner: Cloner, written: Set[int]
) -> Tuple[Any, Dict[int, torch.Tensor]]:
    """The outputs as meta tensors, and those that are constants of the CPU."""
    constants: Dict[int, torch.Tensor] = {}
    originals = cloner.tensors_of_attributes()
    shapes = []
    for index, tensor in enumerate(flatten(result)):
        original = tensor if id(tensor) in written else originals.get(id(tensor), tensor)
        if not isinstance(original, FakeTensor):
            logger.warning(
                "Output expected to be on the IPU but is on cpu: output %d is a constant, it is"
                " returned as it is",
                index,
            )
            constants[index] = original.detach()
        else:
            recorder.used(tensor)
        with torch.no_grad():
            shapes.append(torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"))
    return rebuild(result, iter(shapes)), constants


def _carry_over(
    model: nn.Module, copy: nn.Module, before: Dict[str, Dict[str, Tuple[Any, Any]]]
) -> List[Tuple[str, str]]:
    """Set on the user's modules what forward set on their copies; tensors stay behind.

    Returns:
        (module, attribute) of everything set, tensors included.
    """
    changed = []
    originals = dict(model.named_modules())
    for module_name, module in copy.named_modules():
        for name, value in module.__dict__.items():
            known = before.get(module_name, {})
            if name in _INTERNAL or (name in known and _is_unchanged(value, known[name])):
                continue
            changed.append((module_name, name))
            members = [value, *(_contents(value) or [])]
            if any(isinstance(one, (FakeTensor, nn.Module)) for one in [*members, *flatten(value)]):
                continue
            table = originals[module_name].__dict__
            if _contents(value) is not None and type(table.get(name)) is type(value):
                _refill(table[name], value)  # others may know the container
            else:
                table[name] = value
    return changed


def _check_placements(placements: Tuple[Placement, ...], options: Options, training: bool) -> None:
    stages.check_ipus(placements, options)
    if isinstance(options._execution_strategy, PipelinedExecution):
        check_pipeline_length(options, pipeline_stages(list(placements)), training=training)


def _with_norms(program: Program, model: nn.Module, options: Options) -> Program:
    """Add the running statistics of normalisations in training mode, refuse other broadcasts."""
    statistics = []
    for module_name, module in model.named_modules():
        if not isinstance(module, _NORMS):
            continue
        for name in _NORM_STATISTICS:
            if module.training and getattr(module, name, None) is not None:
                statistics.append(f"{module_name}.{name}" if module_name else name)
    plain = [name for name in program.written_buffers if name not in statistics]
    if plain and options.replication_factor > 1 and options.broadcast_buffers:
        raise createPoptorchError(
            "PopTorch does not support broadcasting buffers. If your model is able to tolerate"
            " buffers becoming out of sync between replicas, you can disable buffer broadcasting"
            " using poptorch.Options.broadcastBuffers(False)."
            f" Written in forward: {', '.join(plain)}"
        )
    program.written_buffers = tuple(plain + statistics)
    return program
