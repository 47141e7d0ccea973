"""Weights that differ between groups of replicas: `executor.fc.weight.replicaGrouping(...)` (2.14).

R replicas in K groups. The host's tensor of such a weight has a leading dimension: (K, ...), or
(R, ...) once all replicas' values were asked for. `forward` sees the group's value, without it.
"""

from __future__ import annotations

import contextlib
from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

import torch
from torch import nn

from ..enums import CommGroupType, VariableRetrievalMode
from ..errors import createPoptorchError


class Grouping(NamedTuple):
    """Which replicas share a value."""

    of_replica: Tuple[int, ...]
    """Group of each replica."""
    all_replicas: bool
    """`copyWeightsToHost` gives the value of every replica, else one per group."""

    @property
    def groups(self) -> int:
        """K."""
        return max(self.of_replica) + 1

    def by_group(self, host: torch.Tensor) -> torch.Tensor:
        """(K, ...) of a host tensor with an entry per group or replica: its first replica's."""
        if host.shape[0] == self.groups:
            return host
        return host[[self.of_replica.index(group) for group in range(self.groups)]]

    def by_entry(self, device: torch.Tensor, entries: int) -> torch.Tensor:
        """(entries, ...) of the device's (K, ...)."""
        return device if entries == self.groups else device[list(self.of_replica)]


Groupings = Dict[str, Grouping]
"""By the name of the weight."""


def make_grouping(
    comm_group_type: CommGroupType,
    shards: int,
    variable_retrieval_mode: VariableRetrievalMode,
    replicas: int,
) -> Grouping:
    """The groups of R replicas.

    Args:
        comm_group_type: Consecutive (neighbours), Orthogonal (every K-th), NoGrouping (each alone)
            or All (one group).
        shards: replicas in a group; not read for NoGrouping and All.

    Raises:
        ValueError: an argument of another kind, or shards that do not divide the replicas.
    """
    if not isinstance(comm_group_type, CommGroupType):
        raise ValueError(
            f"replicaGrouping: comm_group_type must be a poptorch.CommGroupType, got"
            f" {comm_group_type!r}"
        )
    if not isinstance(variable_retrieval_mode, VariableRetrievalMode):
        raise ValueError(
            "replicaGrouping: variable_retrieval_mode must be a poptorch.VariableRetrievalMode,"
            f" got {variable_retrieval_mode!r}"
        )
    size = {CommGroupType.All: replicas, CommGroupType.NoGrouping: 1}.get(comm_group_type, shards)
    if not isinstance(size, int) or size < 1 or replicas % size:
        raise ValueError(
            "replicaGrouping: shards is the number of replicas in a group and must divide"
            f" replicationFactor({replicas}), got {shards}"
        )
    groups = replicas // size
    consecutive = comm_group_type is not CommGroupType.Orthogonal
    return Grouping(
        tuple(r // size if consecutive else r % groups for r in range(replicas)),
        variable_retrieval_mode is VariableRetrievalMode.AllReplicas,
    )


def check_weights(weights: Mapping[str, torch.Tensor], groupings: Groupings) -> None:
    """Raise poptorch.Error when a grouped weight has no entry for each group on the host."""
    for name, grouping in groupings.items():
        shape = weights[name].shape
        if not shape:
            raise createPoptorchError(
                "Scalars cannot be passed as per-replica weight tensor values:"
                f" {name} needs a leading dimension of {grouping.groups}"
            )
        if shape[0] not in (grouping.groups, len(grouping.of_replica)):
            raise createPoptorchError(
                f"replicaGrouping of {name}: its first dimension must be the number of groups"
                f" ({grouping.groups}), got shape {list(shape)}"
            )


@contextlib.contextmanager
def first_groups(model: nn.Module, groupings: Groupings) -> Iterator[None]:
    """Inside, grouped weights of a model are those of the first group, as `forward` sees them."""
    weights = dict(model.named_parameters())
    check_weights(weights, groupings)
    slices = {
        id(weights[name]): nn.Parameter(weights[name].detach()[0], weights[name].requires_grad)
        for name in groupings
    }
    replaced: List[Tuple[nn.Module, str, nn.Parameter]] = [
        (module, name, weight)
        for module in (model.modules() if slices else [])
        for name, weight in module._parameters.items()
        if weight is not None and id(weight) in slices
    ]
    for module, name, weight in replaced:
        module._parameters[name] = slices[id(weight)]
    try:
        yield
    finally:
        for module, name, weight in replaced:
            module._parameters[name] = weight
