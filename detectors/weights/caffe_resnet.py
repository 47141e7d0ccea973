"""ResNets of Caffe's lineage under torchvision's names: MSRA's `.pkl` and detectron2's modules.

Both take BGR; ours take RGB, so the first convolution's input channels are turned round once.
"""

from __future__ import annotations

import re
from typing import Dict, Mapping, Optional

import torch
from torch import Tensor

__all__ = ["from_detectron2", "from_msra", "swap_colours"]

BRANCHES = {"1": "downsample", "2a": "1", "2b": "2", "2c": "3"}
NORMS = {
    **dict.fromkeys(("gamma", "s"), "weight"),
    **dict.fromkeys(("beta", "b"), "bias"),
    **dict.fromkeys(("running_mean", "rm"), "running_mean"),
    **dict.fromkeys(("running_var", "riv"), "running_var"),
}
"""Caffe2's names of a norm's parts; statistics may have been put into `s` and `b`."""

HEADS = {
    "proposal_generator.rpn_head.conv": "rpn.conv",
    "proposal_generator.rpn_head.objectness_logits": "rpn.objectness_logits",
    "proposal_generator.rpn_head.anchor_deltas": "rpn.anchor_deltas",
    "roi_heads.box_predictor.cls_score": "box_head.class_logits",
    "roi_heads.box_predictor.bbox_pred": "box_head.box_deltas",
}
"""detectron2's modules -> our network's; both have the background last and no boxes for it."""

FOLDED_VARIANCE = 1 - 1e-5  # with epsilon 1e-5 the norm is then scale and shift alone


def swap_colours(weight: Tensor) -> Tensor:
    """A convolution's weight (out, 3, h, w) for the opposite order of colours."""
    return weight.flip(1)


def msra_name(name: str) -> Optional[str]:
    """torchvision's name of one of MSRA's; None for what is no part of the features."""
    found = re.fullmatch(r"(?:res_)?conv1_(w|bn_(\w+))", name)
    if found:
        return "conv1.weight" if found[1] == "w" else _norm("bn1", found[2])
    found = re.fullmatch(r"res([2-5])_(\d+)_branch(1|2a|2b|2c)_(w|bn_(\w+))", name)
    if found is None:
        return None
    block, branch = f"layer{int(found[1]) - 1}.{found[2]}", BRANCHES[found[3]]
    shortcut = branch == "downsample"
    if found[4] == "w":
        return f"{block}.downsample.0.weight" if shortcut else f"{block}.conv{branch}.weight"
    return _norm(f"{block}.downsample.1" if shortcut else f"{block}.bn{branch}", found[5])


def _norm(module: str, part: str) -> Optional[str]:
    return f"{module}.{NORMS[part]}" if part in NORMS else None


def from_msra(tensors: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """A Caffe2 ImageNet `.pkl` as a backbone's state, for RGB."""
    named = {msra_name(name): value.float() for name, value in tensors.items()}
    state = {name: value for name, value in named.items() if name is not None}
    for name in [name for name in state if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        module = name[: -len("weight")]
        state.setdefault(f"{module}running_mean", torch.zeros_like(state[name]))
        state.setdefault(f"{module}running_var", torch.full_like(state[name], FOLDED_VARIANCE))
    state["conv1.weight"] = swap_colours(state["conv1.weight"])
    return state


def detectron2_name(name: str) -> Optional[str]:
    """Our network's name of a tensor of detectron2's R-C4 detector; None where we have none."""
    module, _, kind = name.rpartition(".")
    if module in HEADS:
        return f"{HEADS[module]}.{kind}"
    found = re.fullmatch(r"backbone\.stem\.conv1(\.norm)?", module)
    if found:
        return f"backbone.bn1.{kind}" if found[1] else f"backbone.conv1.{kind}"
    found = re.fullmatch(
        r"(?:backbone|roi_heads)\.res([2-5])\.(\d+)\.(conv([123])|shortcut)(\.norm)?", module
    )
    if found is None:
        return None
    block = f"backbone.layer{int(found[1]) - 1}.{found[2]}"
    if found[3] == "shortcut":
        return f"{block}.downsample.{1 if found[5] else 0}.{kind}"
    return f"{block}.{'bn' if found[5] else 'conv'}{found[4]}.{kind}"


def from_detectron2(tensors: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """detectron2's Faster R-CNN R-C4 as our network's state, for RGB."""
    named = {detectron2_name(name): value.float() for name, value in tensors.items()}
    state = {name: value for name, value in named.items() if name is not None}
    state["backbone.conv1.weight"] = swap_colours(state["backbone.conv1.weight"])
    return state
