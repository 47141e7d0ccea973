"""One part of a model as a module: the pieces of its graph, and the values between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import fx, nn

from .. import _state
from ..capture.program import Program
from .exported import Exported
from .exporter import operators
from .pieces import Piece, Plan
from .recompute import run_keeping_inputs


@dataclass
class Recipe:
    """What a part is made from."""

    exported: Exported
    plan: Plan
    program: Program
    index: int
    training: bool
    recompute: bool
    writes_inputs: bool = False
    """Write back what forward changes in its inputs; the part must be the only one."""


class PartModule(nn.Module):
    """The pieces of one part, and where the values between them go."""

    def __init__(self, recipe: Recipe, weights: Dict[str, torch.Tensor]) -> None:
        super().__init__()
        exported, plan = recipe.exported, recipe.plan
        last = recipe.index == plan.pieces[-1].part
        pieces = [piece for piece in plan.pieces if piece.part == recipe.index]
        results = exported.results if last else plan.travels[recipe.index + 1]
        states = [node for node, part in plan.states.items() if part == recipe.index]

        self.train(recipe.training)
        self.differentiable: List[int] = []
        """Outputs that take part in autograd."""
        self.strides: List[Optional[Tuple[int, ...]]] = [None] * len(plan.travels[recipe.index])
        """Those that what arrives is given before it is used; None leaves them."""
        self.device = next(iter(weights.values()), torch.empty(0)).device
        self._recompute = recipe.recompute and recipe.training
        self._random = recipe.program.uses_random
        self._arrives = [node.name for node in plan.travels[recipe.index]]
        self._states = [(exported.weights[node], node.name) for node in states]
        self._frozen = recipe.program.frozen_buffers
        self._results = [node.name for node in results]
        self._changed = recipe.program.written_inputs if recipe.writes_inputs else ()
        self._buffers_here = {name: weights[name] for name, _ in self._states}
        self.pieces = nn.ModuleList()
        self._wiring: List[Tuple[List[str], List[str]]] = []
        used = {name for name, _ in self._states}
        for piece in pieces:
            gives = list(piece.gives)
            if piece is plan.pieces[-1]:
                gives = list(dict.fromkeys(gives + results))
            maker = _Maker(exported, plan, weights, piece, recipe.training)
            self.pieces.append(maker.make(gives))
            self._wiring.append(([n.name for n in piece.arrives], [n.name for n in gives]))
            used.update(maker.used)
        self.weights = tuple(name for name in weights if name in used)
        self.written = tuple(name for name, _ in self._states if name not in self._frozen)

    def forward(self, *tensors: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """Run the part for one micro-batch.

        Args:
            tensors: as `Part.inputs`.
        """
        given = [_with_strides(tensor, strides) for tensor, strides in zip(tensors, self.strides)]
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # also after an error half way
            values = dict(zip(self._arrives, given))
            for position in self._changed:
                values[self._arrives[position]] = given[position].clone()
            self._run(values)
            self._write_back(values, given)
        outputs = [values[name] for name in self._results]
        return tuple(_tied(given, outputs, self.differentiable))

    def shapes(self, tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Outputs for fake inputs; nothing is called or written."""
        values = dict(zip(self._arrives, tensors))
        self._run(values)
        return [values[name] for name in self._results]

    def _run(self, values: Dict[str, torch.Tensor]) -> None:
        for name, key in self._states:
            values[key] = self._buffers_here[name].clone()
        keeps_all = not (self._recompute and torch.is_grad_enabled())
        for piece, (takes, gives) in zip(self.pieces, self._wiring):
            inputs = [values[name] for name in takes]
            if keeps_all:
                results = piece(*inputs)
            else:
                results = run_keeping_inputs(piece, inputs, random=self._random)
            values.update(zip(gives, results))

    def _write_back(self, values: Dict[str, torch.Tensor], given: List[torch.Tensor]) -> None:
        with torch.no_grad():
            for position in self._changed:
                given[position].copy_(values[self._arrives[position]])
            for name, key in self._states:
                if name not in self._frozen:
                    self._buffers_here[name].copy_(values[key])


class _Maker:
    """Makes a piece's module: a function of what arrives, around the weights it uses."""

    def __init__(
        self,
        exported: Exported,
        plan: Plan,
        weights: Dict[str, torch.Tensor],
        piece: Piece,
        training: bool,
    ) -> None:
        self._exported = exported
        self._plan = plan
        self._weights = weights
        self._piece = piece
        self._training = training
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._env: Dict[fx.Node, fx.Node] = {}
        self.used: Dict[str, None] = {}

    def make(self, gives: List[fx.Node]) -> fx.GraphModule:
        piece, graph = self._piece, self._graph
        arrived = [(node, graph.placeholder(node.name)) for node in piece.arrives]
        for node, placeholder in arrived:
            self._env[node] = placeholder
            if self._plan.memories.of(node) & piece.writes:
                clone = torch.ops.aten.clone.default
                self._env[node] = graph.call_function(clone, (placeholder,))
        grad = True
        for node in [*piece.views, *piece.nodes]:
            if self._training and node.meta["grad"] != grad:
                grad = node.meta["grad"]
                graph.call_function(torch._C._set_grad_enabled, (grad,))
            self._copy(node)
        if not grad:
            graph.call_function(torch._C._set_grad_enabled, (True,))
        graph.output(tuple(self._value(node) for node in gives))
        return fx.GraphModule(self._root, graph)

    def _copy(self, node: fx.Node) -> None:
        if node.target is operators().begin_block.default:
            label = self._exported.labels[int(str(node.args[0]))]
            self._graph.call_function(_state.reseed, (label,))
            return
        if node.op == "call_module":
            self._root.add_module(str(node.target), self._exported.calls[str(node.target)])
        self._env[node] = self._graph.node_copy(node, self._value)

    def _value(self, node: fx.Node) -> fx.Node:
        if node not in self._env:
            self._env[node] = self._graph.get_attr(self._held(node))
        return self._env[node]

    def _held(self, node: fx.Node) -> str:
        """A weight or constant as an attribute of the module."""
        name = self._exported.weights.get(node)
        tensor = self._exported.constants[node] if name is None else self._weights[name]
        if name is not None:
            self.used[name] = None
        attribute = f"tensor_{len(self._root._parameters) + len(self._root._buffers)}"
        if isinstance(tensor, nn.Parameter):
            self._root.register_parameter(attribute, tensor)
        else:
            self._root.register_buffer(attribute, tensor, persistent=False)
        return attribute


class _Tie(torch.autograd.Function):
    """Identity of outputs that gives every input of a part a gradient, zeros if it has no other."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.likes = [(t.shape, t.dtype, t.device) for t in tensors[:count]]
        return tuple(tensor.view_as(tensor) for tensor in tensors[count:])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tuple[Any, ...]:
        zeros = [torch.zeros(shape, dtype=dtype, device=at) for shape, dtype, at in ctx.likes]
        return (None, *zeros, *gradients)


def _tied(
    inputs: Sequence[torch.Tensor], outputs: List[torch.Tensor], differentiable: List[int]
) -> List[torch.Tensor]:
    if not (differentiable and torch.is_grad_enabled()):
        return outputs
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    chosen = [outputs[index] for index in differentiable]
    tied = _Tie.apply(len(leaves), *leaves, *chosen)
    for index, tensor in zip(differentiable, tied):
        outputs[index] = tensor
    return outputs


def _with_strides(tensor: torch.Tensor, strides: Optional[Tuple[int, ...]]) -> torch.Tensor:
    if strides is None or tensor.stride() == strides:
        return tensor
    empty = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)
    return empty.copy_(tensor)
