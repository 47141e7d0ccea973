"""What PopTorch's optimizers share: their own attributes, and state that lives on the device."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Mapping, Union

import torch

from .variable_attributes import VariableAttributes

Params = Union[Iterable[torch.Tensor], Iterable[Dict[str, Any]]]
ACCUM_TYPES = (torch.float32, torch.float16)


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

    def state_dict(self) -> Dict[str, Any]:
        """The device's state; None before a training executor compiled with this optimizer."""
        return None  # type: ignore[return-value]  # as PopTorch, against torch's signature

    def get_state_dict(self) -> Dict[str, Any]:
        """As `state_dict`."""
        return self.state_dict()

    def has_state(self) -> bool:
        """Whether there is device state."""
        return self.state_dict() is not None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Not on the host yet.

        Raises:
            RuntimeError: the state is empty, or of an optimizer that never was on a device.
            NotImplementedError: otherwise, as only training uses it.
        """
        if not state_dict:
            raise RuntimeError("Cannot load optimizer state dictionary because it is empty.")
        if "ipu_state" not in state_dict or "ipu_param" not in state_dict:
            raise RuntimeError("Only IPU optimizer states can be loaded onto the IPU.")
        raise NotImplementedError(
            f"poptorch.optim.{type(self).__name__}.load_state_dict comes with training in"
            " poptorch_host; until then train with torch.optim and plain PyTorch"
        )

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `load_state_dict`."""
        self.load_state_dict(state_dict)

    def _keep(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Store PopTorch's own attributes; those given (not None) become variable."""
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
