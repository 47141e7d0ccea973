"""AutoML's variable names for an EfficientDet's tensors, and TensorFlow's layouts.

Names are those of google/automl's TF1 and TF2 models, which are equal. Kernels are height, width,
in, out there; box channels are y before x; each fusion weight is a scalar of its own.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

import torch
from torch import Tensor

from detectors.backbones.efficientnet import stage_repeats
from detectors.models.efficientdet.bifpn import bifpn_nodes
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.weights.effdet import swap_box_axes

EMA = "/ExponentialMovingAverage"
SLOTS = re.compile(r"/(Momentum|RMSProp|RMSProp_1|Adam|Adam_1)$")  # the optimizer's own
KERNEL = (3, 2, 0, 1)  # height, width, in, out -> out, in, height, width
DEPTHWISE = (2, 3, 0, 1)  # height, width, channels, 1 -> channels, 1, height, width
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


class Source(NamedTuple):
    """Where one of our tensors comes from."""

    variables: Tuple[str, ...]
    """One variable, or the scalars to be stacked."""
    layout: Tuple[int, ...] = ()
    """Permutation of the variable's axes; () for none."""


class Averaged(NamedTuple):
    """Variables by name after the choice between raw and averaged copies."""

    tensors: Dict[str, str]
    """Plain name -> the name to read."""
    num_averaged: int
    """How many are the moving average."""
    skipped: List[str]
    """Step counter and optimizer state."""


def choose_copies(names: Iterable[str], ema: bool) -> Averaged:
    """Which copy of each variable to read: the moving average where there is one, if `ema`."""
    names = set(names)
    skipped = sorted(n for n in names if n == "global_step" or SLOTS.search(n.replace(EMA, "")))
    plain = {n.replace(EMA, "") for n in names.difference(skipped)}
    chosen = {}
    for name in plain:
        averaged = name + EMA in names and (ema or name not in names)
        chosen[name] = name + EMA if averaged else name
    return Averaged(chosen, sum(n.endswith(EMA) for n in chosen.values()), skipped)


def from_automl(
    tensors: Mapping[str, Tensor], names: Iterable[str], config: EfficientDetConfig
) -> Dict[str, Tensor]:
    """AutoML's variables as our network's state dict; what they lack is left out.

    Args:
        tensors: variable name (without the averages' suffix) -> tensor.
        names: the names of our network's state dict.
        config: of our network.
    """
    state = {}
    for name, source in sources(names, config).items():
        if all(variable in tensors for variable in source.variables):
            parts = [tensors[variable] for variable in source.variables]
            value = torch.stack(parts) if name.endswith("edge_weights") else parts[0]
            if source.layout and value.dim() == 4:
                value = value.permute(source.layout).contiguous()
            state[name] = value
    return swap_box_axes(state)


def sources(names: Iterable[str], config: EfficientDetConfig) -> Dict[str, Source]:
    """Our name -> AutoML's variables, for every tensor that AutoML has.

    torch counts a batch norm's batches; TensorFlow does not, so these names have no source.
    """
    return {
        name: _source(name, config) for name in names if not name.endswith("num_batches_tracked")
    }


def _source(name: str, config: EfficientDetConfig) -> Source:
    """The variables of one of our tensors."""
    module, _, leaf = name.rpartition(".")
    if name.startswith("backbone."):
        return _backbone_source(module, leaf, config.backbone)
    if name.startswith("bifpn."):
        return _bifpn_source(module, leaf, config)
    return _head_source(module, leaf, config.min_level)


def _backbone_source(module: str, leaf: str, backbone: str) -> Source:
    if module == "backbone.stem.conv":
        return Source((f"{backbone}/stem/conv2d/kernel",), KERNEL)
    if module == "backbone.stem.norm":
        return Source((f"{backbone}/stem/tpu_batch_normalization/{NORM[leaf]}",))
    _, _, stage, block, part, kind = module.split(".")
    number = sum(stage_repeats(backbone)[: int(stage)]) + int(block)
    scope = f"{backbone}/blocks_{number}"
    if part == "squeeze":
        conv = {"reduce": "se/conv2d", "expand": "se/conv2d_1"}[kind]
        return Source((f"{scope}/{conv}/{_leaf(leaf)}",), KERNEL)
    # Layers are numbered in the order they were made; stage 0 has no expansion.
    order = ["depthwise", "project"] if stage == "0" else ["expand", "depthwise", "project"]
    if kind == "norm":
        return Source((f"{scope}/tpu_batch_normalization{_nth(order.index(part))}/{NORM[leaf]}",))
    if part == "depthwise":
        return Source((f"{scope}/depthwise_conv2d/depthwise_kernel",), DEPTHWISE)
    convs = [name for name in order if name != "depthwise"]
    return Source((f"{scope}/conv2d{_nth(convs.index(part))}/kernel",), KERNEL)


def _bifpn_source(module: str, leaf: str, config: EfficientDetConfig) -> Source:
    found = re.fullmatch(r"bifpn\.extra_levels\.(\d+)\.project\.(conv|norm)", module)
    if found:
        return _projection(f"resample_p{6 + int(found[1])}", found[2], leaf)
    found = re.fullmatch(r"bifpn\.cells\.(\d+)\.nodes\.(\d+)\.(.+)", module)
    assert found is not None
    node = bifpn_nodes(config.min_level, config.max_level)[int(found[2])]
    number = config.num_levels + int(found[2])  # of the node's map, after the cell's inputs
    scope = f"fpn_cells/cell_{found[1]}/fnode{found[2]}"
    part = found[3].split(".")
    if part[0] == "fusion":
        return Source(tuple(f"{scope}/WSM{_nth(index)}" for index in range(len(node.inputs))))
    if part[0] == "inputs":
        slot = int(part[1])
        return _projection(f"{scope}/resample_{slot}_{node.inputs[slot]}_{number}", part[2], leaf)
    scope = f"{scope}/op_after_combine{number}"
    if part[0] == "norm":
        return Source((f"{scope}/bn/{NORM[leaf]}",))
    return _separable(f"{scope}/conv", part[1], leaf)


def _head_source(module: str, leaf: str, min_level: int) -> Source:
    head, part, *rest = module.split(".")
    kind = {"class_head": "class", "box_head": "box"}[head]
    if part == "predict":
        return _separable(f"{kind}_net/{kind}-predict", rest[0], leaf)
    if part == "norms":
        level = min_level + int(rest[1])
        return Source((f"{kind}_net/{kind}-{rest[0]}-bn-{level}/{NORM[leaf]}",))
    return _separable(f"{kind}_net/{kind}-{rest[0]}", rest[1], leaf)


def _projection(scope: str, kind: str, leaf: str) -> Source:
    """A 1x1 convolution with bias and its batch norm."""
    if kind == "norm":
        return Source((f"{scope}/bn/{NORM[leaf]}",))
    return Source((f"{scope}/conv2d/{_leaf(leaf)}",), KERNEL)


def _separable(scope: str, kind: str, leaf: str) -> Source:
    """One half of a separable convolution; the bias belongs to the pointwise half."""
    if leaf == "bias":
        return Source((f"{scope}/bias",))
    return Source((f"{scope}/{kind}_kernel",), DEPTHWISE if kind == "depthwise" else KERNEL)


def _leaf(leaf: str) -> str:
    return {"weight": "kernel", "bias": "bias"}[leaf]


def _nth(index: int) -> str:
    """TensorFlow numbers the second layer of a kind `_1`."""
    return f"_{index}" if index else ""
