"""An exported graph cut into pieces: what each runs, takes and gives.

A piece is a run of nodes inside one stage; without recomputation a stage is one piece. Values that
later pieces read pass from one to the next. A piece never changes what it takes: a tensor that
arrives and is written in place is cloned first, and given on as it is then. A view of such memory
is made anew from what it is a view of, since a copy would not see the change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Set

from torch import fx

from ..blocks.stage_resolver import Placement
from ..capture.program import Program
from ..errors import createPoptorchError
from .exported import Exported
from .exporter import operators
from .writes import Memories, live_nodes


@dataclass
class Piece:
    """Some nodes in a row."""

    part: int
    """The stage it is in, from 0."""
    nodes: List[fx.Node] = field(default_factory=list)
    views: List[fx.Node] = field(default_factory=list)
    """Nodes of earlier pieces that it runs again, before its own."""
    arrives: List[fx.Node] = field(default_factory=list)
    """Values of earlier pieces that it reads."""
    writes: Set[int] = field(default_factory=set)
    """Memories that it changes."""
    gives: List[fx.Node] = field(default_factory=list)
    """Values that it makes or changes and later pieces read."""


@dataclass
class Plan:
    """All pieces of a graph."""

    pieces: List[Piece]
    states: Dict[fx.Node, int]
    """Buffers that forward writes, and the part that does."""
    memories: Memories
    travels: List[List[fx.Node]] = field(default_factory=list)
    """What each part gets from the one before; the first gets the inputs."""


def cut(exported: Exported, program: Program, *, stages: bool, segments: bool) -> Plan:
    """Cut at blocks that change the IPU and, for `segments`, at recomputation checkpoints.

    Args:
        stages: begin a part at each such block; else all pieces are one part.

    Raises:
        poptorch.Error: a stage is entered twice, a buffer is written on several stages or read
            before the stage that writes it, or forward writes a tensor that is no buffer.
    """
    memories = Memories(exported.graph)
    kept = [n for n, name in exported.weights.items() if name in program.written_buffers]
    kept += [exported.inputs[position] for position in program.written_inputs]
    kept += exported.constants
    nodes = live_nodes(exported.graph, exported.results + kept, memories)
    pieces = _in_pieces(nodes, program, memories, segments=segments)
    if not stages:
        for piece in pieces:
            piece.part = 0
    else:
        _check_order(program.placements)
    plan = Plan(pieces, _states(exported, pieces, memories), memories)
    _check_constants(exported, plan)
    _check_states(exported, program, plan)
    _Connection(exported, plan).connect()
    return plan


def _in_pieces(
    nodes: List[fx.Node], program: Program, memories: Memories, *, segments: bool
) -> List[Piece]:
    pieces, ipu = [Piece(0)], program.placements[0].ipu
    for node in nodes:
        if node.target is operators().begin_block.default:
            number = int(str(node.args[0]))
            before, ipu = ipu, _placement(program, number).ipu
            if ipu != before and (len(pieces) > 1 or not _is_empty(pieces[0], memories)):
                pieces.append(Piece(pieces[-1].part + 1))
            if not program.uses_random:
                continue
        if node.target is operators().checkpoint.default:
            if segments and pieces[-1].nodes:
                pieces.append(Piece(pieces[-1].part))
            continue
        pieces[-1].nodes.append(node)
        pieces[-1].writes |= memories.written(node)
    return pieces


def _placement(program: Program, number: int) -> Placement:
    if number + 1 >= len(program.placements):
        raise createPoptorchError(
            f"forward begins more blocks than the {len(program.placements) - 1} of its capture: a"
            " poptorch.for_loop whose body begins blocks cannot be split into stages or recomputed"
        )
    return program.placements[number + 1]


def _check_order(placements: Sequence[Placement]) -> None:
    """Refuse to enter a stage again; what runs before the first block does not count."""
    latest = (-1, -1)
    for before, placement in zip(placements, placements[1:]):
        position = (placement.phase, placement.stage)
        if placement.ipu != before.ipu and position <= latest:
            raise createPoptorchError(
                f"Block '{placement.block_id}' enters stage {placement.stage} (IPU"
                f" {placement.ipu}) again after a later one: a pipeline on ranks runs each stage"
                " once per micro-batch, in order. Give the block a stage of its own, or use"
                " host.configure(schedule='sequential')"
            )
        latest = max(latest, position)


def _is_empty(piece: Piece, memories: Memories) -> bool:
    """Whether nothing in it computes: only blocks, and views of inputs."""
    return (
        all(
            node.target is operators().begin_block.default or memories.is_view(node)
            for node in piece.nodes
        )
        and not piece.writes
    )


def _states(exported: Exported, pieces: List[Piece], memories: Memories) -> Dict[fx.Node, int]:
    found: Dict[fx.Node, int] = {}
    for node, name in exported.weights.items():
        parts = sorted({p.part for p in pieces if p.writes & memories.of(node)})
        if len(parts) > 1:
            raise createPoptorchError(
                f"forward writes {name} on stages {parts}: a buffer is written on one stage only."
                " Put the modules that write it on one stage, or use"
                " host.configure(schedule='sequential')"
            )
        if parts:
            found[node] = parts[0]
    return found


def _check_constants(exported: Exported, plan: Plan) -> None:
    written = {memory for piece in plan.pieces for memory in piece.writes}
    for node in exported.constants:
        if plan.memories.of(node) & written:
            raise createPoptorchError(
                f"forward changes the tensor {node.name} in place, which is no parameter or buffer:"
                " register it with register_buffer"
            )


def _check_states(exported: Exported, program: Program, plan: Plan) -> None:
    for piece in plan.pieces:
        for node in piece.nodes:
            for state in node.all_input_nodes:
                late = plan.states.get(state, -1) > piece.part
                if late and exported.weights[state] not in program.frozen_buffers:
                    raise createPoptorchError(
                        f"forward reads {exported.weights[state]} on stage {piece.part} and writes"
                        f" it on stage {plan.states[state]}: in a pipeline the next micro-batch"
                        " reads it before that. Put both on one stage, or use"
                        " host.configure(schedule='sequential')"
                    )


class _Connection:
    """Finds what passes between pieces."""

    def __init__(self, exported: Exported, plan: Plan) -> None:
        self._exported = exported
        self._plan = plan
        self._order = {node: index for index, node in enumerate(exported.graph.nodes)}
        self._home = self._homes()

    def connect(self) -> None:
        pieces = self._plan.pieces
        last_read: Dict[fx.Node, int] = {}
        for index, piece in enumerate(pieces):
            reads = [one for node in piece.nodes for one in node.all_input_nodes]
            if piece is pieces[-1]:
                reads += self._exported.results
            arrives: Dict[fx.Node, None] = {}
            views: Dict[fx.Node, None] = {}
            for one in reads:
                self._reach(one, index, arrives, views)
            piece.arrives = sorted(arrives, key=self._order.__getitem__)
            piece.views = sorted(views, key=self._order.__getitem__)
            last_read.update(dict.fromkeys(arrives, index))
        for index, piece in enumerate(pieces):
            piece.gives = [
                node
                for node in sorted(last_read, key=self._order.__getitem__)
                if self._is_given(node, index, last_read[node])
            ]
        self._plan.travels = [
            self._traveling(part, last_read) for part in range(pieces[-1].part + 1)
        ]

    def _is_given(self, node: fx.Node, index: int, last_read: int) -> bool:
        piece = self._plan.pieces[index]
        if node in piece.arrives and self._plan.memories.of(node) & piece.writes:
            return last_read > index or node.op == "placeholder"
        is_made = self._home[node] == index and node not in self._plan.states
        return is_made and last_read > index

    def _homes(self) -> Dict[fx.Node, int]:
        """The piece that makes each value; inputs are there before the first."""
        pieces = self._plan.pieces
        home = {node: index for index, piece in enumerate(pieces) for node in piece.nodes}
        home.update(dict.fromkeys(self._exported.inputs, -1))
        for node, part in self._plan.states.items():
            home[node] = next(i for i, piece in enumerate(pieces) if piece.part == part)
        return home

    def _reach(
        self, node: fx.Node, index: int, arrives: Dict[fx.Node, None], views: Dict[fx.Node, None]
    ) -> None:
        """Get a value into a piece."""
        home = self._home.get(node)
        is_state = node in self._plan.states
        if home is None or home > index or (home == index and not is_state) or node in views:
            return  # a weight, or the piece's own
        memories = self._plan.memories
        changes = any(memories.of(node) & piece.writes for piece in self._plan.pieces[home + 1 :])
        if not (changes and memories.is_view(node)):
            arrives[node] = None
            return
        for one in node.all_input_nodes:
            self._reach(one, index, arrives, views)
        views[node] = None

    def _traveling(self, part: int, last_read: Dict[fx.Node, int]) -> List[fx.Node]:
        if part == 0:
            return self._exported.inputs
        pieces = self._plan.pieces

        def made_in(node: fx.Node) -> int:
            return max(pieces[self._home[node]].part if self._home[node] >= 0 else 0, 0)

        return [
            node
            for node in sorted(last_read, key=self._order.__getitem__)
            if made_in(node) < part <= pieces[last_read[node]].part
        ]
