"""The optimizer on the device: its state, and updates of all weights from reduced gradients."""

from __future__ import annotations

import math
from typing import Any, Callable, Collection, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import nn

from .._logging import logger
from .converted import Converted
from .loss_scale import NAME, LossScale
from .rules import RULES, Rule, State

_MOMENT_TYPE = {
    "Accl1": "first_order_momentum_accum_type",
    "Accl2": "second_order_momentum_accum_type",
    "Accl3": "first_order_momentum_accum_type",
}
"""Which attribute gives a state's dtype; SGD's velocity has one of its own."""
SEPARATOR = "___"
"""Between the kind of a state and the name of its weight."""


def norm_of(gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The norm of all of them as one vector; float32, 0 of none."""
    norms = [gradient.norm() for gradient in gradients.values()]
    return torch.stack(norms).norm() if norms else torch.zeros(())


class DeviceOptimizer:
    """Updates weights as the converted optimizer says."""

    def __init__(
        self,
        converted: Converted,
        *,
        accumulates: bool,
        scale: Optional[LossScale] = None,
        grouped: Collection[str] = (),
    ) -> None:
        """Start without state.

        Args:
            converted: replaced by assignment when the program sets another optimizer.
            accumulates: more than one micro-batch per update and replica.
            scale: for automatic loss scaling.
            grouped: weights whose first dimension counts groups of replicas.
        """
        self.converted = converted
        self._accumulates = accumulates
        self._scale = scale
        self._grouped = frozenset(grouped)
        self._states: Dict[str, State] = {}

    @property
    def accum_type(self) -> torch.dtype:
        """Of gradient accumulators."""
        return self.converted.accum_type

    @property
    def loss_scaling(self) -> float:
        """Factor of the loss that is differentiated: PopART's finalLossScale."""
        factor = 1.0 if self._scale is None else self._scale.factor
        return self.converted.loss_scaling * factor

    def track(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Let automatic loss scaling see the gradients of one micro-batch, still scaled."""
        if self._scale is not None:
            self._scale.track(w.grad for w in weights.values() if w.grad is not None)

    @property
    def members(self) -> List[str]:
        """Names of all weights that it updates, in order."""
        return [name for _, name in self._members()]

    @torch.no_grad()
    def step(
        self,
        weights: Mapping[str, nn.Parameter],
        gradients: Mapping[str, torch.Tensor],
        norm: Callable[[Mapping[str, torch.Tensor]], torch.Tensor] = norm_of,
    ) -> None:
        """Update the weights that have a gradient and belong to a group.

        Under automatic loss scaling gradients that overflowed change nothing but the scale.

        Args:
            gradients: float32, reduced and without loss scaling, by the weights' names; changed.
            norm: of the gradients of all weights that are updated, wherever they are.
        """
        present = [(group, name) for group, name in self._members() if name in gradients]
        if self._scale is not None:
            finite = all(bool(gradients[name].isfinite().all()) for _, name in present)
            used = self.loss_scaling
            self._scale.update(self.converted.loss_scaling)
            if not finite:
                logger.debug("gradients overflow at loss scale %s: no update", used)
                return
        self._clip({name: gradients[name] for _, name in present}, norm)
        rule = RULES[self.converted.kind]
        values = [self._values(group) for group in range(len(self.converted.groups))]
        for group, name in present:
            stored = self._states.setdefault(name, {})
            state = {key: tensor.float() for key, tensor in stored.items()}
            wide = weights[name].detach().float()  # the weight itself unless it is half
            if name in self._grouped:
                _update_entries(rule, wide, gradients[name], state, values[group])
            else:
                rule(wide, gradients[name], state, values[group])
            weights[name].copy_(wide)
            for key, tensor in state.items():
                stored[key] = tensor.to(self._dtype(key))

    def state(self) -> Dict[str, torch.Tensor]:
        """Copies of all state on the CPU, named `Accl1___<weight>`, `Step___<weight>`, ..."""
        return {
            f"{kind}{SEPARATOR}{name}": tensor.detach().cpu().clone()
            for name, states in self._states.items()
            for kind, tensor in states.items()
        }

    def load(
        self, tensors: Mapping[str, torch.Tensor], weights: Mapping[str, nn.Parameter]
    ) -> Tuple[List[str], List[str]]:
        """Take state by the names of `state`; what is not given stays.

        Returns:
            names that fit no weight here, and weights for which nothing was given.
        """
        unknown, given = [], set()
        for key, tensor in tensors.items():
            kind, _, name = key.partition(SEPARATOR)
            weight = weights.get(name)
            if weight is None or (tensor.dim() and tensor.shape != weight.shape):
                unknown.append(key)
                continue
            given.add(name)
            value = tensor.to(weight.device, self._dtype(kind), copy=True)
            self._states.setdefault(name, {})[kind] = value
        expected = [name for _, name in self._members() if name in weights]
        return unknown, [name for name in expected if tensors and name not in given]

    def load_parameters(self, values: Mapping[str, torch.Tensor]) -> None:
        """Of what `parameters` gives, take what the device changes by itself."""
        if self._scale is not None and NAME in values:
            self._scale.factor = float(values[NAME])

    def parameters(self) -> Dict[str, torch.Tensor]:
        """The values that updates read, by PopART's names: `learningRate___specific___<weight>`."""
        found = {"lossScaling_FLOAT": torch.tensor(self.converted.loss_scaling)}
        if self._scale is not None:
            found[NAME] = torch.tensor(self._scale.factor)
        for group, name in self._members():
            values = self.converted.groups[group]
            rate, decay = values["lr"].value, values["weight_decay"].value
            if self._stateless(group):
                named = {"scaledLearningRate0": rate, "weightDecayScaleFactor0": 1 - rate * decay}
            else:
                named = {"learningRate": rate, "weightDecay": decay}
            for key, value in named.items():
                found[f"{key}{SEPARATOR}specific{SEPARATOR}{name}"] = torch.tensor(value)
        return found

    def _members(self) -> Iterator[Tuple[int, str]]:
        for group, names in enumerate(self.converted.members):
            for name in names:
                yield group, name

    def _values(self, group: int) -> Dict[str, Any]:
        return {**self.converted.values(group), "stateless": self._stateless(group)}

    def _stateless(self, group: int) -> bool:
        """Plain gradient descent needs no velocity, unless a momentum may come."""
        if self.converted.kind != "SGD" or self.converted.structure["use_combined_accum"]:
            return False
        momentum = self.converted.groups[group]["momentum"]
        return not self._accumulates and momentum.value == 0 and momentum.constant

    def _dtype(self, kind: str) -> torch.dtype:
        structure = self.converted.structure
        if self.converted.kind == "SGD":
            name = "velocity_accum_type" if kind == "Accl1" else ""
        else:
            name = _MOMENT_TYPE.get(kind, "")
        dtype: torch.dtype = structure.get(name, torch.float32)
        return dtype

    def _clip(
        self,
        gradients: Dict[str, torch.Tensor],
        norm: Callable[[Mapping[str, torch.Tensor]], torch.Tensor],
    ) -> None:
        limit = self.converted.max_grad_norm
        if math.isinf(limit):
            return
        factor = (limit / norm(gradients)).clamp(max=1.0)
        for gradient in gradients.values():
            gradient.mul_(factor)


def _update_entries(
    rule: Rule,
    weight: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    values: Mapping[str, Any],
) -> None:
    """Apply a rule to each entry of the first dimension as to a weight of its own."""
    parts: List[State] = []
    for index in range(weight.shape[0]):
        part = {k: (t[index] if t.dim() else t).clone() for k, t in state.items()}
        rule(weight[index], gradient[index], part, values)
        parts.append(part)
    for key, first in parts[0].items():
        shared = first.dim() == 0 and key == "Step"
        state[key] = first if shared else torch.stack([part[key] for part in parts])
