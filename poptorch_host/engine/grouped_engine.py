"""Engines of models with weights that differ between groups of replicas (2.14).

R replicas, K groups of a weight. The engine keeps a grouped weight as one tensor (K, ...), of which
each replica's module has a view; gradients are reduced among the replicas of a group only.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import torch
from torch import nn

from ..capture.program import Program
from .engine import Engine, Layout, Replica
from .gradients import Gradients, Totals
from .replica_grouping import Groupings
from .training_engine import TrainingEngine, Update


class GroupedWeights:
    """The grouped weights of one engine."""

    def __init__(self, pristine: nn.Module, groupings: Groupings, layout: Layout) -> None:
        """Make room for them; their values come with the first upload.

        Args:
            pristine: the module tree around the first groups' values.
        """
        weights = dict(pristine.named_parameters())
        self.groupings = groupings
        self.whole: Dict[str, nn.Parameter] = {}
        """(K, ...) by name."""
        self._first = {name: weights[name] for name in groupings}
        for name, weight in self._first.items():
            entry = layout.place(weight.detach())
            room = entry.new_empty((groupings[name].groups, *entry.shape))
            self.whole[name] = nn.Parameter(room.copy_(entry), weight.requires_grad)

    def of_replica(self, replica: int) -> Dict[str, nn.Parameter]:
        """A replica's views, by name."""
        return {
            name: nn.Parameter(
                whole.detach()[self.groupings[name].of_replica[replica]], whole.requires_grad
            )
            for name, whole in self.whole.items()
        }

    def copies(
        self, pristine: nn.Module, program: Program, layout: Layout, replicas: int
    ) -> Tuple[List[Replica], List[Dict[str, nn.Parameter]]]:
        """The replicas, which share all other parameters, and their views."""
        shared: Dict[int, nn.Parameter] = {}
        made, views = [], [self.of_replica(replica) for replica in range(replicas)]
        mine = {id(weight): name for name, weight in self._first.items()}
        for view in views:
            known = {**shared, **{key: view[name] for key, name in mine.items()}}
            made.append(Replica(pristine, program, layout, known))
            shared.update({key: one for key, one in known.items() if key not in mine})
        return made, views

    def upload(self, weights: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Take the grouped ones of the host's tensors; returns the others."""
        with torch.inference_mode(False), torch.no_grad():
            for name, whole in self.whole.items():
                if name in weights:
                    whole.copy_(self.groupings[name].by_group(weights[name]))
        return {name: one for name, one in weights.items() if name not in self.whole}

    def download(self, weights: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Give the grouped ones to the host's tensors; returns the others."""
        with torch.no_grad():
            for name, whole in self.whole.items():
                if name in weights:
                    host = weights[name]
                    host.copy_(self.groupings[name].by_entry(whole.detach(), host.shape[0]))
        return {name: one for name, one in weights.items() if name not in self.whole}


class GroupedEngine(Engine):
    """Inference with grouped weights."""

    def __init__(self, groupings: Groupings, pristine: nn.Module, *others: Any) -> None:
        """As `Engine`'s, after the groupings."""
        self._grouped = GroupedWeights(pristine, groupings, others[3])
        self._count: int = others[2]
        super().__init__(pristine, *others)

    def _copies(self, pristine: nn.Module, count: int) -> List[Replica]:
        return self._grouped.copies(pristine, self.program, self.layout, self._count)[0]

    def upload(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers to every replica, grouped ones to their groups."""
        super().upload(self._grouped.upload(weights))

    def download(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy the first replica's into the host's tensors, of grouped ones all entries."""
        super().download(self._grouped.download(weights))


class GroupedTrainingEngine(TrainingEngine):
    """Training with grouped weights."""

    def __init__(self, groupings: Groupings, pristine: nn.Module, *others: Any) -> None:
        """As `TrainingEngine`'s, after the groupings."""
        self._grouped = GroupedWeights(pristine, groupings, others[3])
        self._count: int = others[2]
        self._views: List[Dict[str, nn.Parameter]] = []
        super().__init__(pristine, *others)
        update: Update = others[5]
        self._gradients = GroupedGradients(
            groupings, self._views, mean=update.mean, running=update.running
        )
        for name, whole in self._grouped.whole.items():
            if name in self.trained:
                self.trained[name] = whole

    def _copies(self, pristine: nn.Module, count: int) -> List[Replica]:
        made, self._views = self._grouped.copies(pristine, self.program, self.layout, self._count)
        return made

    def upload(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy parameters and buffers to every replica, grouped ones to their groups."""
        super().upload(self._grouped.upload(weights))

    def download(self, weights: Dict[str, torch.Tensor]) -> None:
        """Copy the first replica's into the host's tensors, of grouped ones all entries."""
        super().download(self._grouped.download(weights))


class GroupedGradients(Gradients):
    """Accumulators of which grouped weights have one per group."""

    def __init__(
        self,
        groupings: Groupings,
        views: List[Dict[str, nn.Parameter]],
        *,
        mean: bool,
        running: bool,
    ) -> None:
        """Start empty.

        Args:
            views: the grouped weights of each replica.
        """
        super().__init__(mean=mean, running=running)
        self._groupings = groupings
        self._views = views
        self._replica = 0  # whose gradients come next
        self._parts = {
            name: [Gradients(mean=mean, running=running) for _ in range(grouping.groups)]
            for name, grouping in groupings.items()
        }

    def clear(self) -> None:
        """Forget what was added."""
        super().clear()
        self._replica = 0
        for parts in self._parts.values():
            for part in parts:
                part.clear()
        for view in self._views:
            for weight in view.values():
                weight.grad = None

    def add(self, weights: Mapping[str, nn.Parameter], dtype: torch.dtype) -> None:
        """Take `.grad` of the next replica's micro-batch."""
        mine = self._views[self._replica]
        super().add({name: one for name, one in weights.items() if name not in mine}, dtype)
        for name, weight in mine.items():
            if name in weights:
                group = self._groupings[name].of_replica[self._replica]
                self._parts[name][group].add({name: weight}, dtype)

    def close(self) -> None:
        """End a replica: the next micro-batches are of the one after it."""
        super().close()
        self._replica = (self._replica + 1) % len(self._views)

    def take(
        self, loss_scaling: float, add_others: Optional[Callable[[Totals], int]] = None
    ) -> Totals:
        """The reduced gradients, (K, ...) of grouped weights, and start again."""
        found = super().take(loss_scaling, add_others)
        for name, parts in self._parts.items():
            taken = [part.take(loss_scaling).get(name) for part in parts]
            some = next((one for one in taken if one is not None), None)
            if some is not None:
                found[name] = torch.stack(
                    [torch.zeros_like(some) if one is None else one for one in taken]
                )
        return found
