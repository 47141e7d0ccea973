"""Rows of a class head: how many classes there are, and moving those of shared classes.

A anchors, C classes, V values for each; a class layer has A * C * V outputs, and the background's.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from detectors.weights.family import ClassLayer, Config, Family

__all__ = ["count_classes", "shared_classes", "take_shared"]


def count_classes(state: Mapping[str, Tensor], config: Config, family: Family) -> int:
    """C of a state, by the size of its first class layer."""
    layer = family.class_layers[0]
    rows = len(state[f"{layer.name}.bias"]) - layer.background
    return rows // (layer.values * (config.num_anchors if layer.per_anchor else 1))


def shared_classes(
    names: Optional[Sequence[Optional[str]]], classes: Optional[Sequence[Optional[str]]]
) -> Dict[int, int]:
    """Label in the model -> label in the weights, of the classes that both name."""
    saved = {name: label for label, name in enumerate(names or ()) if name}
    return {
        label: saved[name] for label, name in enumerate(classes or ()) if name and name in saved
    }


def take_shared(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    shared: Mapping[int, int],
    config: Config,
    family: Family,
) -> Dict[str, Tensor]:
    """The class layers with the weights' rows of shared classes and the model's own of the others.

    The background is one that both share.

    Args:
        own: the model's state.
        state: the weights'.
        shared: as `shared_classes` returns it.
        config: of the model.
        family: of both.
    """
    merged: Dict[str, Tensor] = {}
    for layer in family.class_layers:
        anchors = config.num_anchors if layer.per_anchor else 1
        for name in (f"{layer.name}.weight", f"{layer.name}.bias"):
            rows, _ = split(own[name].clone(), layer, anchors)
            saved, background = split(state[name].to(rows.dtype), layer, anchors)
            for label, saved_label in shared.items():
                rows[:, label] = saved[:, saved_label]
            merged[name] = torch.cat([rows.flatten(0, 2), background])
    return merged


def split(tensor: Tensor, layer: ClassLayer, anchors: int) -> Tuple[Tensor, Tensor]:
    """(A * C * V + background, ...) -> (A, C, V, ...) and (background, ...)."""
    end = len(tensor) - layer.background
    rows = tensor[:end].reshape(anchors, -1, layer.values, *tensor.shape[1:])
    return rows, tensor[end:]
