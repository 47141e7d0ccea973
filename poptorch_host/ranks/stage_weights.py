"""The weights of one stage: what this rank holds of a model, and what all ranks know of the rest.

A weight that several stages use is held by each of them; the copy of its owner counts.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from ..graph.parts import Part
from ..optim.device import SEPARATOR, DeviceOptimizer
from . import exchange, ranks
from .ranks import Mesh


class StageWeights:
    """The part of `PipelineEngine` that keeps weights, gradients and optimizer state as one."""

    def __init__(
        self,
        label: str,
        mesh: Mesh,
        parts: Sequence[Part],
        weights: Mapping[str, torch.Tensor],
        optimizer: Optional[DeviceOptimizer],
    ) -> None:
        """Take this rank's weights; all ranks together.

        Args:
            label: names the model in messages.
            parts: all of the model.
            weights: all of the model's, by name.
            optimizer: of this stage; None in inference.
        """
        self._label = label
        self._mesh = mesh
        self._device = next((w.device for w in weights.values()), torch.device("cpu"))
        self._optimizer = optimizer
        self._owners = _owners(parts)
        self._held = {name: weights[name] for name in parts[mesh.stage].weights}
        self.trained: Dict[str, nn.Parameter] = {
            name: tensor
            for name, tensor in self._held.items()
            if optimizer is not None and isinstance(tensor, nn.Parameter) and tensor.requires_grad
        }
        """Weights of this rank that get a gradient, by name."""
        self._tied = _tied_groups(mesh, parts, weights) if optimizer is not None else []

    def upload(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers, by name, from rank 0's host to the stages and all hosts."""
        names, world = sorted(weights), self._mesh.world
        ranks.agree(world, f"writes weights of {self._label}")
        mine = [weights[name] for name in names]
        values = exchange.share_alike(world, 0, mine if world.rank == 0 else None, mine)
        with torch.inference_mode(False), torch.no_grad():
            for name, value in zip(names, values):
                if world.rank:
                    weights[name].copy_(value)
                if name in self._held:
                    self._held[name].copy_(value)

    def download(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers of the first replica into every host's tensors."""
        mesh = self._mesh
        ranks.agree(self._mesh.world, f"reads weights of {self._label}")
        for stage in range(mesh.stages):
            names = sorted(name for name in weights if self._owners.get(name) == stage)
            source = mesh.rank_of(stage, 0)
            mine = {name: self._held[name] for name in names} if mesh.rank == source else None
            with torch.no_grad():
                for name, value in exchange.share(self._mesh.world, source, mine).items():
                    weights[name].copy_(value)

    def optimizer_state(self) -> Dict[str, torch.Tensor]:
        """The optimizer's state on all stages."""
        assert self._optimizer is not None
        mesh, found = self._mesh, {}
        ranks.agree(self._mesh.world, f"reads the optimizer's state of {self._label}")
        for stage in range(mesh.stages):
            source = mesh.rank_of(stage, 0)
            mine = None
            if mesh.rank == source:
                state = self._optimizer.state()
                mine = {k: v for k, v in state.items() if self._owners[_weight(k)] == stage}
            found.update(exchange.share(self._mesh.world, source, mine))
        return found

    def load_optimizer_state(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> Tuple[List[str], List[str]]:
        """As `DeviceOptimizer.load`, each stage its own."""
        assert self._optimizer is not None
        here = {key: value for key, value in tensors.items() if _weight(key) in self.trained}
        unknown, missing = self._optimizer.load(here, self.trained)
        nowhere = [key for key in tensors if _weight(key) not in self._owners]
        return nowhere + unknown, missing

    def _add_others(self, gradients: Dict[str, torch.Tensor]) -> int:
        for group, names in self._tied:
            self._add_tied(group, names, gradients)
        if self._mesh.replicas > 1:
            exchange.add_up(self._mesh.alike, [gradients[name] for name in sorted(gradients)])
        return self._mesh.replicas

    def _add_tied(
        self, group: ranks.Group, names: Sequence[str], gradients: Dict[str, torch.Tensor]
    ) -> None:
        """Add up the gradients of weights that several stages use; absent on all stays absent."""
        present = torch.tensor([float(name in gradients) for name in names], device=self._device)
        totals = [gradients.get(n, torch.zeros_like(self.trained[n]).float()) for n in names]
        exchange.add_up(group, [present, *totals])
        for name, count, total in zip(names, present.tolist(), totals):
            if count:
                gradients[name] = total

    def _norm(self, gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Of the gradients of all stages, those of a tied weight once; as one process sums it."""
        assert self._optimizer is not None
        names = self._optimizer.members
        owned = {name for name in gradients if self._owners[name] == self._mesh.stage}
        zero = torch.zeros((), device=self._device)
        norms = torch.stack([gradients[n].norm() if n in owned else zero for n in names])
        present = torch.tensor([float(name in owned) for name in names], device=zero.device)
        exchange.add_up(self._mesh.pipeline, [norms, present])
        total: torch.Tensor = norms[present > 0].norm()
        return total


def _owners(parts: Sequence[Part]) -> Dict[str, int]:
    """The stage whose copy of a weight counts: the first that writes it, else that uses it."""
    owners: Dict[str, int] = {}
    for stage, part in enumerate(parts):
        for name in part.weights:
            owners.setdefault(name, stage)
    written: Dict[str, int] = {}
    for stage, part in enumerate(parts):
        for name in part.written:
            written.setdefault(name, stage)
    return {**owners, **written}


def _tied_groups(
    mesh: Mesh, parts: Sequence[Part], weights: Mapping[str, torch.Tensor]
) -> List[Tuple[ranks.Group, List[str]]]:
    """Groups of the stages that share trained weights, and their names; made by all ranks."""
    sharing: Dict[Tuple[int, ...], List[str]] = {}
    for name, tensor in weights.items():
        stages = tuple(stage for stage, part in enumerate(parts) if name in part.weights)
        if len(stages) > 1 and isinstance(tensor, nn.Parameter) and tensor.requires_grad:
            sharing.setdefault(stages, []).append(name)
    found = []
    for stages, names in sorted(sharing.items()):
        rows: Iterable[List[int]] = (
            [mesh.rank_of(stage, replica) for stage in stages] for replica in range(mesh.replicas)
        )
        group = ranks.group_of(mesh.rank, list(rows))
        if group is not None:
            found.append((group, names))
    return found


def _weight(key: str) -> str:
    """Of an optimizer state's name."""
    return key.partition(SEPARATOR)[2]
