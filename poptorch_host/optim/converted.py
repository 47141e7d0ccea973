"""An optimizer as the device knows it: a snapshot of its attributes, each constant or variable.

Python code of optimizers never runs in training; what a program changes later is seen by the next
`setOptimizer` only. Constants are compiled in, so a replacement must agree on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Tuple, Type

import torch

from .. import settings
from .adam import Adam, AdamW
from .lamb import LAMB
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD
from .unexpected import warn_of_unexpected

_KINDS: Tuple[Tuple[str, Type[torch.optim.Optimizer]], ...] = (
    ("AdamW", torch.optim.AdamW),  # before Adam, of which it is a subclass since torch 2.7
    ("Adam", torch.optim.Adam),
    ("SGD", torch.optim.SGD),
    ("RMSprop", torch.optim.RMSprop),
    ("LAMB", LAMB),
)
_KNOWN = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop) + (
    Adam,
    AdamW,
    SGD,
    RMSprop,
    LAMB,
)
_GROUP = {
    "SGD": ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    "Adam": ("lr", "betas", "eps", "weight_decay"),
    "AdamW": ("lr", "betas", "eps", "weight_decay"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum"),
    "LAMB": ("lr", "betas", "eps", "weight_decay", "max_weight_norm"),
}
"""Attributes that may differ between groups."""
_WIDE = ("loss_scaling", "velocity_scaling")
"""Attributes of the whole optimizer that may be variable."""
_STRUCTURE: Dict[str, Dict[str, Any]] = {
    "SGD": {"use_combined_accum": False, "velocity_accum_type": torch.float32},
    "Adam": {"bias_correction": True},
    "AdamW": {"bias_correction": True},
    "RMSprop": {"use_tf_variant": False, "centered": False},
    "LAMB": {"bias_correction": True},
}
"""What decides how the update is built, and the values of torch's optimizers."""
_MOMENT_TYPES = {
    "first_order_momentum_accum_type": torch.float32,
    "second_order_momentum_accum_type": torch.float32,
}
_REFERENCE: Dict[str, Any] = {
    "weight_decay": 0.0,
    "momentum": 0.0,
    "dampening": 0.0,
    "eps": 1e-8,
    "betas": (0.9, 0.999),
    "max_weight_norm": 65500.0,
    "velocity_scaling": 1.0,
    "loss_scaling": 1.0,
}
"""Values that are constant in torch's optimizers; lr never is, alpha and nesterov always are."""


@dataclass(frozen=True)
class Value:
    """One attribute."""

    value: Any
    constant: bool


@dataclass(frozen=True)
class Converted:
    """What an optimizer said when it was given to an executor."""

    kind: str
    groups: Tuple[Dict[str, Value], ...]
    members: Tuple[Tuple[str, ...], ...]
    """Names of each group's weights in the model."""
    wide: Dict[str, Value]
    structure: Dict[str, Any]
    accum_type: torch.dtype
    max_grad_norm: float
    """Infinite: no clipping."""

    @property
    def loss_scaling(self) -> float:
        """Factor of the loss that is differentiated."""
        return float(self.wide["loss_scaling"].value)

    @property
    def forces_running_mean(self) -> bool:
        """Half accumulators cannot hold a sum that is divided at the end."""
        return self.accum_type == torch.float16

    def values(self, group: int) -> Dict[str, Any]:
        """What an update rule reads."""
        attributes = {name: value.value for name, value in self.groups[group].items()}
        return {**attributes, **self.structure, "decoupled": self.kind == "AdamW"}


def convert(
    optimizer: torch.optim.Optimizer,
    names: Mapping[int, str],
    warn: Callable[[str, str], None],
    *,
    adapts_scale: bool = False,
) -> Converted:
    """Take the snapshot.

    Args:
        names: of the model's parameters, by `id`.
        warn: called with a kind of warning and its text.
        adapts_scale: automatic loss scaling is on, which makes loss_scaling variable.

    Raises:
        AssertionError: an optimizer of another type, or RMSprop groups that differ in `centered`.
        ValueError: amsgrad, or an optimizer with no weight of this model.
    """
    kind = _kind_of(optimizer)
    if type(optimizer) not in _KNOWN:
        warn(
            "subclass",
            f"{type(optimizer).__name__} is treated as {kind}: Python code of an optimizer is not"
            " run on the device, only its attributes are read",
        )
    own = {*_WIDE, *_STRUCTURE[kind], *_MOMENT_TYPES, "accum_type", "max_grad_norm"}
    group = {*_GROUP[kind], "centered"} if kind == "RMSprop" else {*_GROUP[kind]}
    warn_of_unexpected(optimizer, own, group, warn)
    structure = _structure(kind, optimizer)
    if structure.get("second_order_momentum_accum_type") == torch.float16:
        warn(
            "second_order_momentum_accum_type",
            "second_order_momentum_accum_type=torch.float16 is risky: squares of gradients below"
            " 2e-4 are zero in half",
        )
    wide = {name: _wide(optimizer, name) for name in _WIDE}
    if adapts_scale:
        wide["loss_scaling"] = Value(wide["loss_scaling"].value, False)
    combined = bool(structure.get("use_combined_accum"))
    loss, velocity = wide["loss_scaling"].value, wide["velocity_scaling"].value
    passed = isinstance(optimizer, SGD) and not _is_constant(
        optimizer, "velocity_scaling", 1.0, kind
    )
    if passed and not combined and loss != velocity:
        warn(
            "velocity_scaling",
            f"velocity_scaling={velocity} is ignored: it is loss_scaling={loss} unless"
            " use_combined_accum=True",
        )
    if not combined:
        wide["velocity_scaling"] = wide["loss_scaling"]
    members = tuple(
        tuple(names[id(weight)] for weight in group["params"] if id(weight) in names)
        for group in optimizer.param_groups
    )
    if not any(members):
        raise ValueError(
            f"Invalid optimizer: none of the parameters of this {type(optimizer).__name__} belongs"
            " to the model; make it from model.parameters() of the model that is wrapped"
        )
    return Converted(
        kind=kind,
        groups=tuple(_group(kind, optimizer, group) for group in optimizer.param_groups),
        members=members,
        wide=wide,
        structure=structure,
        accum_type=torch.float32 if combined else getattr(optimizer, "accum_type", torch.float32),
        max_grad_norm=float(getattr(optimizer, "max_grad_norm", math.inf)),
    )


def _kind_of(optimizer: object) -> str:
    for kind, base in _KINDS:
        if isinstance(optimizer, base):
            # Since torch 2.7 Adam(decoupled_weight_decay=True) is AdamW under another name.
            group: Mapping[str, Any] = optimizer.param_groups[0]
            return "AdamW" if kind == "Adam" and group.get("decoupled_weight_decay") else kind
    supported = ", ".join(["poptorch.optim.*", *[f"torch.optim.{kind}" for kind, _ in _KINDS[:4]]])
    raise AssertionError(
        f"Unsupported optimizer type. Types supported {supported}, got {type(optimizer).__name__}"
    )


def _structure(kind: str, optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
    groups = optimizer.param_groups
    if any(group.get("amsgrad") for group in groups):
        raise ValueError("Only non-amsgrad Adam/AdamW optimizers are supported.")
    defaults = _STRUCTURE[kind] if kind == "SGD" else {**_STRUCTURE[kind], **_MOMENT_TYPES}
    values = {name: getattr(optimizer, name, default) for name, default in defaults.items()}
    if values.get("use_combined_accum"):  # one tensor, which is float32
        values["velocity_accum_type"] = torch.float32
    if kind == "AdamW" and settings.current().strict:
        values["bias_correction"] = True
    if kind == "RMSprop":
        centered = {bool(group["centered"]) for group in groups}
        assert len(centered) == 1, "All parameter groups must have the same value for 'centered'"
        values["centered"] = centered.pop()
    return values


def _group(kind: str, optimizer: Any, group: Mapping[str, Any]) -> Dict[str, Value]:
    values = {name: _plain(group[name]) for name in _GROUP[kind]}
    return {name: Value(v, _is_constant(optimizer, name, v, kind)) for name, v in values.items()}


def _wide(optimizer: Any, name: str) -> Value:
    value = float(getattr(optimizer, name, 1.0))
    marks = getattr(optimizer, "variable_attrs", None)
    if marks is not None and name in marks.names:
        return Value(value, marks.isConstant(name))
    return Value(value, value == _REFERENCE[name])


def _is_constant(optimizer: Any, name: str, value: Any, kind: str) -> bool:
    if isinstance(optimizer, Optimizer):
        return optimizer.variable_attrs.isConstant(name)
    if name == "lr":
        return False
    if name in ("alpha", "nesterov"):
        return True
    reference = 1e-2 if kind == "AdamW" and name == "weight_decay" else _REFERENCE[name]
    return bool(value == reference)


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(float(one) for one in value)
    return value if isinstance(value, bool) else float(value)
