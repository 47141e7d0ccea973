"""What PopTorch's optimizers share: their own attributes, and state that lives on the device."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Mapping, Optional, Protocol, Tuple, Union, cast

import torch

from .variable_attributes import VariableAttributes

Params = Union[Iterable[torch.Tensor], Iterable[Dict[str, Any]]]
ACCUM_TYPES = (torch.float32, torch.float16)


class DeviceState(Protocol):
    """What a training executor offers to the optimizer it was given."""

    def optimizer_state(self) -> Dict[str, torch.Tensor]:
        """The state on the device, by PopART's names."""

    def optimizer_parameters(self) -> Dict[str, torch.Tensor]:
        """The values that updates read, by PopART's names."""


class Optimizer:
    """Mixin of every `poptorch.optim` class beside the torch class it derives from.

    A training executor takes the attributes and keeps the state; on its own an instance is the
    torch optimizer, whose `step()` reads none of PopTorch's additions.
    """

    variable_attrs: VariableAttributes
    """Which attributes may change between calls."""
    loss_scaling: float
    """Factor of the loss that is differentiated; divided out of the update."""

    ipu_state_is_dirty = False
    """The device holds newer state than the host."""
    host_state_is_dirty = False
    """The host holds newer state than the device."""

    _device: Optional[DeviceState] = None
    _kept_state: Optional[Dict[str, torch.Tensor]] = None
    """The state while no executor has it on a device: from a file, or of one that ended."""
    _kept_parameters: Dict[str, torch.Tensor]
    _own: Tuple[str, ...]
    """Names of PopTorch's own attributes."""

    def state_dict(self) -> Dict[str, Any]:
        """The device's state; None before a training executor compiled with this optimizer.

        Returns:
            `ipu_state` (`Accl1___<weight>`, ...) and `ipu_param`, tensors by PopART's names, beside
            torch's `state` (empty) and `param_groups`.
        """
        if self._device is not None and not self.host_state_is_dirty:
            self._kept_state = self._device.optimizer_state()
            self._kept_parameters = self._device.optimizer_parameters()
            self.ipu_state_is_dirty = False
        if self._kept_state is None:
            return None  # type: ignore[return-value]  # as PopTorch, against torch's signature
        torch_state: Dict[str, Any] = super().state_dict()  # type: ignore[misc]  # torch's, beside
        own = {"ipu_state": dict(self._kept_state), "ipu_param": dict(self._kept_parameters)}
        return {**torch_state, **own}

    def get_state_dict(self) -> Dict[str, Any]:
        """As `state_dict`."""
        return self.state_dict()

    def has_state(self) -> bool:
        """Whether there is device state."""
        return self.state_dict() is not None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take attributes of groups and device state, which the next call or compile uploads.

        Raises:
            RuntimeError: the state is empty, or of an optimizer that never was on a device.
            ValueError: its groups differ from this optimizer's, as torch checks them.
        """
        if not state_dict:
            raise RuntimeError("Cannot load optimizer state dictionary because it is empty.")
        if "ipu_state" not in state_dict or "ipu_param" not in state_dict:
            raise RuntimeError("Only IPU optimizer states can be loaded onto the IPU.")
        if "param_groups" in state_dict:
            torch_state = {name: state_dict[name] for name in ("state", "param_groups")}
            super().load_state_dict(torch_state)  # type: ignore[misc]  # torch's, beside this class
        self._kept_state = dict(state_dict["ipu_state"])
        self._kept_parameters = dict(state_dict["ipu_param"])
        self.host_state_is_dirty = True

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `load_state_dict`."""
        self.load_state_dict(state_dict)

    def __getstate__(self) -> Dict[str, Any]:
        """What copies and pickles hold: torch's three entries, our attributes, the state."""
        self.state_dict()
        torch_state = cast(Dict[str, Any], super().__getstate__())
        kept = ("variable_attrs", "_own", "_kept_state", "_kept_parameters", *self._own)
        own = {name: value for name, value in vars(self).items() if name in kept}
        return {**torch_state, **own, "host_state_is_dirty": self._kept_state is not None}

    def _keep(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Store PopTorch's own attributes; those given (not None) become variable."""
        self._own = tuple(defaults)
        for name, default in defaults.items():
            value = given.get(name)
            setattr(self, name, default if value is None else value)
            if name.endswith("accum_type"):
                check_accum_type(getattr(self, name))

    def _set_variable(self, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
        names = list(allowed)
        variable = [name for name in names if given.get(name) is not None]
        self.variable_attrs = VariableAttributes(variable, names)


def check_accum_type(dtype: torch.dtype) -> None:
    """Raise AssertionError unless float32 or float16."""
    assert dtype in ACCUM_TYPES, (
        f"Accumulation types must be either torch.float32 or torch.float16, got {dtype}"
    )


NO_CLIP = math.inf
"""`max_grad_norm` that clips nothing."""
