"""A model as a graph of operators: `torch.export` of its `forward`, inside an executor.

Operators stay as high as autograd sees them, in-place ones included, so the graph computes what
eager execution does, bit for bit. Custom operators, `torch.autograd.Function` and printing are
calls of Python; where blocks begin and recomputation keeps activations are markers.

Node metadata: `val` an example of the result, `grad` whether autograd was on.
"""

from __future__ import annotations

import contextlib
import operator
import warnings
from dataclasses import dataclass, field
from typing import Any, ContextManager, Dict, List, Tuple

import torch
from torch import fx, nn
from torch.utils._python_dispatch import _disable_current_modes

from .. import _state
from ..capture.capture import no_validation
from ..capture.loss import IDENTITY, LossCatcher, LossWatch
from ..capture.program import Program
from ..capture.scripted import scripts_as_python
from ..errors import Error, createPoptorchError
from ..tensors import half
from ..tensors.arguments import Arguments
from ..tensors.clones import Cloner
from ..tensors.ipu_device import IpuDevice
from ..tensors.structure import flatten, rebuild
from .exporter import Exporter, functions_as_calls, operators
from .writes import written_by

NEEDS = (2, 9)
"""The first torch whose `torch.export` keeps what stages need."""

_WRAPPED_GRAD = "wrap_with_set_grad_enabled"
_DROPPED = frozenset(["aten::_assert_tensor_metadata", "aten::_assert_async"])


@dataclass
class Exported:
    """A model's graph; nodes in order of execution."""

    graph: fx.Graph
    """Placeholders, operators, calls of Python (modules named `call_N`) and markers; flat."""
    inputs: List[fx.Node]
    """The tensors among forward's arguments."""
    weights: Dict[fx.Node, str]
    """Names in the module tree of parameters and buffers."""
    constants: Dict[fx.Node, torch.Tensor]
    """Other tensors that forward knows, and those it makes from numbers."""
    calls: Dict[str, nn.Module]
    """By name."""
    labels: Dict[int, str] = field(default_factory=dict)
    """Labels of the blocks by the number in their marker."""
    results: List[fx.Node] = field(default_factory=list)
    """The tensors of forward's result, in training then the loss."""


def export(tree: nn.Module, program: Program, arguments: Arguments, *, training: bool) -> Exported:
    """Make a graph of `tree.forward`; the tree stays as it is.

    Args:
        tree: a module tree with the tensors it runs on.
        arguments: of one micro-batch; only shapes, strides and dtypes of tensors are used.
        training: keep autograd as forward has it, and find the loss.

    Raises:
        poptorch.Error: torch is too old, or forward has what no graph can hold.
    """
    check_torch("A split into stages")
    copy = Cloner(lambda tensor: tensor, isolate=True).clone(tree)  # keeps attributes forward sets
    example = next(iter([*tree.parameters(), *tree.buffers()]), torch.empty(0))
    tensors = tuple(
        torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=example.device).zero_()
        for t in _tensors(arguments)
    )
    exporter = Exporter()
    flat = _Flat(copy, program, arguments, exporter, training)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_disable_current_modes())  # those of a run, half rounding above all
            for mode in (no_validation(), scripts_as_python(), functions_as_calls(exporter)):
                stack.enter_context(mode)
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(training))
            if example.device.type != "cpu":
                stack.enter_context(example.device)
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            program_of_torch = torch.export.export(flat, tensors, strict=False)
    except Error:
        raise
    except Exception as error:
        raise createPoptorchError(
            f"This model cannot be made a graph by torch.export, which stages need: {error}."
            " Run it in one process (host.configure(schedule='sequential'), recompute='never')"
        ) from error
    return _Reader(tree, exporter, training).read(program_of_torch)


def check_torch(what: str) -> None:
    """Raise poptorch.Error if torch cannot export as stages need it."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < NEEDS:
        raise createPoptorchError(
            f"{what} needs torch >= {'.'.join(map(str, NEEDS))} for torch.export, this is"
            f" {torch.__version__}"
        )


class _Flat(nn.Module):
    """A model as a function of its input tensors, with the loss as its last result."""

    def __init__(
        self,
        model: nn.Module,
        program: Program,
        arguments: Arguments,
        exporter: Exporter,
        training: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self._call = (program, arguments, exporter, training)

    def forward(self, *inputs: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        program, arguments, exporter, training = self._call
        tensors = iter(inputs)
        args = [rebuild(value, tensors) for value in arguments.args]
        kwargs = {name: rebuild(value, tensors) for name, value in arguments.kwargs.items()}
        catcher = LossCatcher(program.loss) if training and program.loss is not None else None
        modes: List[ContextManager[Any]] = [_state.running(losses=catcher, exporter=exporter)]
        if program.uses_half:
            modes.append(half.InputDtype())
        if program.names_ipu:
            modes.append(IpuDevice())
        if catcher is not None and program.loss is not None and program.loss.name != IDENTITY:
            modes.append(LossWatch(catcher))
        with contextlib.ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            results = flatten(self.model(*args, **kwargs))
        if catcher is not None:
            assert catcher.loss is not None
            results.append(catcher.loss)
        return tuple(results)


class _Reader:
    """Reads torch's exported program into one flat graph."""

    def __init__(self, tree: nn.Module, exporter: Exporter, training: bool) -> None:
        named = {**dict(tree.named_parameters()), **dict(tree.named_buffers())}
        self._names = {id(tensor): name for name, tensor in named.items()}
        self._tables = _every_name(tree)
        self._training = training
        self._exporter = exporter
        self._result = Exported(fx.Graph(), [], {}, {}, {}, exporter.labels)

    def read(self, exported: Any) -> Exported:
        result, nodes = self._result, iter(exported.graph.nodes)
        env: Dict[fx.Node, Any] = {}
        for spec, node in zip(exported.graph_signature.input_specs, nodes):
            env[node] = copy = result.graph.node_copy(node)
            self._place(spec, copy, exported)
        result.results = self._inline(exported.graph_module, env, self._training)
        return result

    def _place(self, spec: Any, node: fx.Node, exported: Any) -> None:
        result, kind = self._result, spec.kind.name
        if kind == "USER_INPUT":
            result.inputs.append(node)
            return
        target: str = spec.target
        own = self._tables.get(target.partition(".")[2])
        if kind in ("PARAMETER", "BUFFER") and own is not None:
            result.weights[node] = self._names[id(own)]
            return
        table = exported.constants if kind == "CONSTANT_TENSOR" else exported.state_dict
        result.constants[node] = table[target]

    def _inline(self, module: Any, env: Dict[Any, Any], grad: bool) -> List[Any]:
        """Copy the nodes of a graph whose placeholders are in `env`; returns its outputs."""
        for node in module.graph.nodes:
            if node.op == "get_attr":
                env[node] = getattr(module, node.target)
            elif node.op == "call_function":
                env[node] = self._copy(node, env, grad)
        (output,) = [node for node in module.graph.nodes if node.op == "output"]
        return [env[value] for value in output.args[0]]

    def _copy(self, node: Any, env: Dict[Any, Any], grad: bool) -> Any:
        name = getattr(node.target, "__name__", "")
        if name == _WRAPPED_GRAD:
            enabled, inner, *inputs = node.args
            inner = env[inner]
            inside = dict(zip(_placeholders(inner), [env[one] for one in inputs]))
            return self._inline(inner, inside, bool(enabled) and self._training)
        if node.target is operator.getitem and isinstance(env[node.args[0]], (list, tuple)):
            return env[node.args[0]][node.args[1]]
        schema = getattr(node.target, "_schema", None)
        if schema is None and node.target is not operator.getitem:
            raise createPoptorchError(
                f"{name or node.target} in forward cannot be split into stages or recomputed:"
                " leave it out, or run the model in one process"
                " (host.configure(schedule='sequential'), recompute='never')"
            )
        if schema is not None and schema.name in _DROPPED:
            return None
        graph = self._result.graph
        if node.target is operators().python_call.default:
            inputs, key = node.args
            self._result.calls[f"call_{key}"] = self._exporter.calls[key]
            copy = graph.call_module(f"call_{key}", ([env[one] for one in inputs],))
            copy.meta["val"] = node.meta["val"]
        else:
            copy = graph.node_copy(node, lambda one: env[one])
        copy.meta["grad"] = grad
        changed = written_by(copy) if _returns_what_it_writes(schema) else []
        return changed[0] if changed else copy  # `add_` gives the very tensor that it changed


def _returns_what_it_writes(schema: Any) -> bool:
    returns = [] if schema is None else schema.returns
    return len(returns) == 1 and getattr(returns[0].alias_info, "is_write", False)


def _placeholders(module: Any) -> List[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def _every_name(tree: nn.Module) -> Dict[str, torch.Tensor]:
    """Parameters and buffers by every name they have; tied ones have several."""
    found: Dict[str, torch.Tensor] = {}
    for prefix, module in tree.named_modules(remove_duplicate=False):
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    found[f"{prefix}.{name}" if prefix else name] = tensor
    return found


def _tensors(arguments: Arguments) -> List[torch.Tensor]:
    return flatten([arguments.args, list(arguments.kwargs.values())])
