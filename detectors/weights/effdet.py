"""effdet's names for an EfficientDet's tensors, and its order of box channels.

Names are those of effdet 0.4.1's `tf_efficientdet_*` models (with timm's for the backbone). Both
have one tensor for each of ours; only the box head's last convolution differs in content.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Mapping, Tuple

import torch
from torch import Tensor

from detectors.models.efficientdet.bifpn import bifpn_nodes
from detectors.models.efficientdet.config import EfficientDetConfig

BOX_ORDER = (1, 0, 3, 2)  # (ty, tx, th, tw) <-> (dx, dy, dw, dh); its own inverse
BOX_TENSORS = ("box_head.predict.pointwise.weight", "box_head.predict.pointwise.bias")

RULES: Tuple[Tuple[str, str], ...] = (
    (r"backbone\.stem\.conv", r"backbone.conv_stem"),
    (r"backbone\.stem\.norm", r"backbone.bn1"),
    # The blocks of stage 0 do not expand; effdet numbers and names what is there.
    (r"backbone\.stages\.0\.(\d+)\.depthwise\.conv", r"backbone.blocks.0.\1.conv_dw"),
    (r"backbone\.stages\.0\.(\d+)\.depthwise\.norm", r"backbone.blocks.0.\1.bn1"),
    (r"backbone\.stages\.0\.(\d+)\.project\.conv", r"backbone.blocks.0.\1.conv_pw"),
    (r"backbone\.stages\.0\.(\d+)\.project\.norm", r"backbone.blocks.0.\1.bn2"),
    (r"backbone\.stages\.(\d+\.\d+)\.expand\.conv", r"backbone.blocks.\1.conv_pw"),
    (r"backbone\.stages\.(\d+\.\d+)\.expand\.norm", r"backbone.blocks.\1.bn1"),
    (r"backbone\.stages\.(\d+\.\d+)\.depthwise\.conv", r"backbone.blocks.\1.conv_dw"),
    (r"backbone\.stages\.(\d+\.\d+)\.depthwise\.norm", r"backbone.blocks.\1.bn2"),
    (r"backbone\.stages\.(\d+\.\d+)\.project\.conv", r"backbone.blocks.\1.conv_pwl"),
    (r"backbone\.stages\.(\d+\.\d+)\.project\.norm", r"backbone.blocks.\1.bn3"),
    (r"backbone\.stages\.(\d+\.\d+)\.squeeze\.(\w+)", r"backbone.blocks.\1.se.conv_\2"),
    (r"bifpn\.cells\.(\d+)\.nodes\.(\d+)\.", r"fpn.cell.\1.fnode.\2."),
    (r"\.fusion\.edge_weights", r".combine.edge_weights"),
    (r"(fnode\.\d+)\.conv\.depthwise", r"\1.after_combine.conv.conv_dw"),
    (r"(fnode\.\d+)\.conv\.pointwise", r"\1.after_combine.conv.conv_pw"),
    (r"(fnode\.\d+)\.norm", r"\1.after_combine.conv.bn"),
    (r"(class|box)_head\.convs", r"\1_net.conv_rep"),
    (r"(class|box)_head\.norms\.(\d+\.\d+)", r"\1_net.bn_rep.\2.bn"),
    (r"(class|box)_head\.predict", r"\1_net.predict"),
    (r"(net\..*)\.depthwise", r"\1.conv_dw"),
    (r"(net\..*)\.pointwise", r"\1.conv_pw"),
)
"""Our name -> effdet's, applied in order; see `effdet_name` for the two that need the graph."""


def effdet_name(name: str, config: EfficientDetConfig) -> str:
    """effdet's name of one of our tensors."""
    found = re.fullmatch(r"bifpn\.extra_levels\.(\d+)\.project\.(conv|norm)\.(\w+)", name)
    if found:
        level = 6 + int(found[1]) - config.min_level
        return f"fpn.resample.{level}.conv.{_part(found[2])}.{found[3]}"
    found = re.fullmatch(
        r"bifpn\.cells\.(\d+)\.nodes\.(\d+)\.inputs\.(\d+)\.(conv|norm)\.(\w+)", name
    )
    if found:
        node = bifpn_nodes(config.min_level, config.max_level)[int(found[2])]
        combine = f"fpn.cell.{found[1]}.fnode.{found[2]}.combine"
        offset = node.inputs[int(found[3])]
        return f"{combine}.resample.{offset}.conv.{_part(found[4])}.{found[5]}"
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


def from_effdet(
    tensors: Mapping[str, Tensor], names: Iterable[str], config: EfficientDetConfig
) -> Dict[str, Tensor]:
    """effdet's state dict under our names; what it lacks is left out.

    Args:
        tensors: effdet's name -> tensor.
        names: the names of our network's state dict.
        config: of our network.
    """
    theirs = {name: effdet_name(name, config) for name in names}
    state = {name: tensors[key] for name, key in theirs.items() if key in tensors}
    return swap_box_axes(state)


def to_effdet(state: Mapping[str, Tensor], config: EfficientDetConfig) -> Dict[str, Tensor]:
    """Our network's state dict as effdet's; the inverse of `from_effdet`."""
    return {effdet_name(name, config): value for name, value in swap_box_axes(state).items()}


def swap_box_axes(state: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """The state with the box head's outputs in the other order, y before x or x before y.

    The channels of the last pointwise convolution are anchor by anchor, four each.
    """
    swapped = dict(state)
    for name in BOX_TENSORS:
        if name in swapped and len(swapped[name]) % 4 == 0:  # another shape is refused later
            value = swapped[name]  # (4 * A, C, 1, 1) or (4 * A,)
            quads = value.reshape(-1, 4, *value.shape[1:])
            swapped[name] = quads[:, torch.tensor(BOX_ORDER)].reshape(value.shape)
    return swapped


def _part(name: str) -> str:
    return {"conv": "conv", "norm": "bn"}[name]
