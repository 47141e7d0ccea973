"""How weights move between the user's model and the device."""

from __future__ import annotations

from typing import Any, Dict, List

import torch
from torch import nn

from ..engine.replica_grouping import make_grouping
from ..enums import CommGroupType, VariableRetrievalMode
from ..errors import createPoptorchError
from . import user_model
from .compiled import AnyEngine, Compiled


class Weights(Compiled):
    """The part of `PoplarExecutor` that copies parameters and buffers, always by request."""

    _versions: Dict[user_model.Wrapping, int]
    """Of the weights on the device, for each training executor that may have newer ones."""

    def isAttachedToDevice(self) -> bool:
        """Whether the executor holds its device."""
        return self._attached

    def copyWeightsToDevice(self) -> None:
        """Upload the user model's parameters and buffers."""
        self._upload(self._running_engine())

    def copyWeightsToHost(self) -> None:
        """Write the device's parameters and buffers into the user model's."""
        engine = self._running_engine()
        self._make_room()
        engine.download(self._weights())

    def copyWeightsToHostIfNeeded(self) -> bool:
        """As `copyWeightsToHost` if training changed them; inference never does."""
        self._running_engine()
        return False

    def copyNamedBuffersToDevice(self) -> None:
        """Upload the buffers named by `Options.updatableNamedBuffers`, and no weights."""
        engine = self._running_engine()
        names = self._options._updatable_named_buffers
        if not names:
            raise createPoptorchError(
                "No named buffers marked as updatable via updatableNamedBuffers option"
            )
        buffers = dict(self._user_model.named_buffers())
        missing = [name for name in names if name not in buffers]
        if missing:
            raise createPoptorchError(
                f"updatableNamedBuffers: {missing} are not buffers of the model;"
                f" its buffers are {list(buffers)}"
            )
        engine.upload({name: buffers[name] for name in names})

    def load_state_dict(self, state_dict: Dict[str, torch.Tensor], strict: bool = True) -> Any:
        """Load into the user model, and into the device if attached; returns torch's result."""
        result = self._user_model.load_state_dict(state_dict, strict)
        if self.isAttachedToDevice():
            self.copyWeightsToDevice()
        return result

    def _group(
        self,
        parameter: nn.Parameter,
        comm_group_type: CommGroupType,
        shards: int,
        variable_retrieval_mode: VariableRetrievalMode,
    ) -> None:
        """Set which replicas share a weight (2.14)."""
        name = next(n for n, one in self._user_model.named_parameters() if one is parameter)
        if self.isCompiled():
            raise createPoptorchError(
                f"replicaGrouping of {name}: the model is compiled already; call it before the"
                " first call, or destroy() the executor first"
            )
        replicas = self._options.replication_factor
        grouping = make_grouping(comm_group_type, shards, variable_retrieval_mode, replicas)
        self._groupings.pop(name, None)
        if grouping.groups > 1:
            self._groupings[name] = grouping

    def _make_room(self) -> None:
        """Give host tensors of weights that every replica returns an entry for each."""
        for name, grouping in self._groupings.items():
            weight, replicas = self._user_model.get_parameter(name), len(grouping.of_replica)
            if grouping.all_replicas and weight.shape[0] != replicas:
                weight.data = weight.detach().new_empty((replicas, *weight.shape[1:]))

    def _upload(self, engine: AnyEngine) -> None:
        engine.upload(self._weights())  # which pulls what a training executor has changed
        self._versions = {one: one.version for one in self._trained_by()}

    def _trained_by(self) -> List[user_model.Wrapping]:
        """Training executors that own weights of this model."""
        return user_model.wrappings_of(self._tensors)

    def _follow_training(self) -> None:
        """Take the weights that training has changed since they were uploaded."""
        wrappings = self._trained_by()
        for wrapping in wrappings:
            wrapping.pull()
        if any(self._versions.get(one) != one.version for one in wrappings):
            self._upload(self._running_engine())

    def _weights(self) -> Dict[str, torch.Tensor]:
        named = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return {name: tensor.detach() for name, tensor in named.items()}
