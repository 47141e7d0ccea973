"""Faster R-CNN's weights, and its backbone's, of any origin under our names.

Normalisation, order of colours and the place of the stride go together and no tensor tells them:
they are bound to the origin. Normalisation is set in the model; a model with its strides elsewhere
is refused.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple

from torch import Tensor

from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.weights.caffe_resnet import from_detectron2, from_msra, swap_colours
from detectors.weights.fit import COUNTER, Converted, OtherFormError
from detectors.weights.preprocess import CAFFE, IMAGENET, MSRA, Preprocess
from detectors.weights.source import Source

__all__ = ["ORIGINS", "Origin", "convert_faster_rcnn", "require_same_faster_rcnn"]


class Origin(NamedTuple):
    """What goes with weights."""

    preprocess: Preprocess
    stride_in_1x1: bool


ORIGINS: Dict[str, Origin] = {
    "torchvision": Origin(IMAGENET, False),
    "timm": Origin(IMAGENET, False),
    "caffe": Origin(CAFFE, True),
    "msra": Origin(MSRA, True),
    "detectron2": Origin(MSRA, True),
}
"""Of others' weights."""


def convert_faster_rcnn(source: Source, own: Mapping[str, Tensor]) -> Converted:
    """The source under our network's names, for RGB; a classifier's are those of the backbone."""
    tensors = source.tensors
    skipped: List[str] = []
    if source.origin == "detectors":
        state = dict(tensors)
    elif source.origin == "detectron2":
        skipped = [name for name in tensors if "anchor_generator" in name or "pixel_" in name]
        state = from_detectron2(tensors)
    else:
        last = ("fc1000", "pred") if source.origin == "msra" else ("fc.",)
        skipped = [name for name in tensors if name.startswith(last)]
        features = {name: value for name, value in tensors.items() if name not in skipped}
        if source.origin == "msra":
            features = from_msra(features)
        elif source.origin == "caffe":
            features["conv1.weight"] = swap_colours(features["conv1.weight"])
        state = {f"backbone.{name}": value for name, value in features.items()}
    unused = [name for name in state if name not in own and not name.endswith(COUNTER)]
    state = {name: value for name, value in state.items() if name in own}
    return Converted(state, tuple(sorted(unused)), tuple(skipped))


def require_same_faster_rcnn(source: Source, config: FasterRCNNConfig) -> None:
    """Raise unless the model has its strides, and its criterion, where others' weights expect
    them.
    """
    if source.origin not in ORIGINS:
        return
    wanted = ORIGINS[source.origin].stride_in_1x1
    if config.stride_in_1x1 != wanted:
        raise OtherFormError(
            f"{source.path} ({source.origin}) was trained with the stride of bottlenecks in the"
            f" {'1x1' if wanted else '3x3'} convolution; the model has it in the"
            f" {'3x3' if wanted else '1x1'}: build it with stride_in_1x1={wanted}",
            {"stride_in_1x1": wanted},
        )
    if source.origin == "detectron2" and config.variant != "detectron2":
        raise OtherFormError(
            f"{source.path} is detectron2's detector; the model has the anchors and regions of"
            f" '{config.variant}': build it with variant='detectron2'",
            {"variant": "detectron2"},
        )
