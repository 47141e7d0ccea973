"""Which tensors of a graph share memory, and which nodes write it.

A memory is a number that a tensor and all its views have in common.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any, Dict, List, Set

import torch
from torch import fx

_NORMS = frozenset(["aten::batch_norm", "aten::instance_norm", "aten::_batch_norm_impl_index"])
_NORM_FLAGS = ("training", "use_input_stats")
_NORM_STATISTICS = ("running_mean", "running_var")
_COPIES = frozenset(["aten::lift_fresh_copy"])  # the export shows it as a view


class Memories:
    """The memory of each node's result in an exported graph."""

    def __init__(self, graph: fx.Graph) -> None:
        self._of_storage: Dict[int, int] = {}
        self._of_node: Dict[fx.Node, Set[int]] = {}
        numbers = itertools.count()
        for node in graph.nodes:
            found = set()
            for tensor in _tensors(node.meta.get("val")):
                key = tensor.untyped_storage()._cdata
                if operator_name(node) in _COPIES or key not in self._of_storage:
                    self._of_storage[key] = next(numbers)
                found.add(self._of_storage[key])
            self._of_node[node] = found

    def of(self, node: fx.Node) -> Set[int]:
        """Memories of a node's results."""
        return self._of_node[node]

    def written(self, node: fx.Node) -> Set[int]:
        """Memories that running the node changes."""
        return {memory for one in written_by(node) for memory in self._of_node[one]}

    def is_view(self, node: fx.Node) -> bool:
        """Whether a node only looks at the memory of one of its inputs."""
        if node.target is operator.getitem:
            return self.is_view(node.all_input_nodes[0])
        return any(self.of(one) & self.of(node) for one in node.all_input_nodes)


def operator_name(node: fx.Node) -> str:
    """`aten::add_`; empty for what is no operator."""
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name)


def written_by(node: fx.Node) -> List[fx.Node]:
    """Inputs that an operator changes; running statistics, too, which its schema does not show."""
    schema: Any = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    names = [argument.name for argument in schema.arguments]
    values = {**dict(zip(names, node.args)), **node.kwargs}
    written = [
        values.get(argument.name)
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if schema.name in _NORMS and any(values.get(flag) for flag in _NORM_FLAGS):
        written += [values.get(name) for name in _NORM_STATISTICS]
    return [one for one in written if isinstance(one, fx.Node)]


def live_nodes(graph: fx.Graph, wanted: List[fx.Node], memories: Memories) -> List[fx.Node]:
    """Nodes in order without those that nothing depends on.

    Kept are what `wanted` is computed from, what writes memory that a kept node reads, calls
    of Python, markers, and operators that draw random numbers, since the next ones depend on them.

    Args:
        wanted: results, and placeholders whose final values matter.
    """
    needed = set(wanted)
    read = {memory for node in wanted for memory in memories.of(node)}
    live = []
    for node in reversed(list(graph.nodes)):
        keeps = node in needed or _has_effect(node) or memories.written(node) & read
        if node.op == "placeholder" or not keeps:
            continue
        live.append(node)
        needed.update(node.all_input_nodes)
        read.update(memory for one in node.all_input_nodes for memory in memories.of(one))
    return live[::-1]


def _has_effect(node: fx.Node) -> bool:
    if node.op == "call_module":
        return True
    if operator_name(node).startswith("poptorch_host::"):
        return True
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _tensors(value: Any) -> List[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in _tensors(one)]
    return []
