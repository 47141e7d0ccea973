"""Object detectors as PopTorch programs.

    from detectors import efficientdet, faster_rcnn
    model = efficientdet("d0")

Nothing but this file is imported until a model is built.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union

if TYPE_CHECKING:
    from detectors.models.efficientdet.inference import EfficientDet
    from detectors.models.faster_rcnn.inference import FasterRCNN
    from detectors.postprocess import PostprocessConfig
    from detectors.weights import load as load
    from detectors.weights import load_weights as load_weights

__all__ = ["MODELS", "efficientdet", "faster_rcnn", "load", "load_weights", "model_name"]

MODELS = (
    "efficientdet-d0",
    "efficientdet-d1",
    "efficientdet-d2",
    "efficientdet-d3",
    "efficientdet-d4",
    "efficientdet-d5",
    "efficientdet-d6",
    "efficientdet-d7",
    "efficientdet-d7x",
    "efficientdet-lite0",
    "efficientdet-lite1",
    "efficientdet-lite2",
    "efficientdet-lite3",
    "efficientdet-lite3x",
    "efficientdet-lite4",
)
"""Every EfficientDet."""

FASTER_RCNN_DEPTHS = {
    "faster_rcnn-r18_c4": 18,
    "faster_rcnn-r34_c4": 34,
    "faster_rcnn-r50_c4": 50,
    "faster_rcnn-r101_c4": 101,
}
"""Every Faster R-CNN -> layers of the ResNet that is its trunk."""


def model_name(text: str) -> str:
    """The model a person means: `d0` and `EfficientDet_D0` are both `efficientdet-d0`, `r50_c4` and
    `faster-rcnn-r50-c4` both `faster_rcnn-r50_c4`.

    Raises:
        ValueError: there is none of that name; the message has the nearest.
    """
    found = _spelled(text)
    if found is not None:
        return found
    # What a person mistypes or makes up is the variant: compare that alone.
    known = (*MODELS, *FASTER_RCNN_DEPTHS)
    variants = {model.split("-", 1)[1].replace("_", "-"): model for model in known}
    name = text.strip().lower().replace("_", "-")
    end = name.split("-")[-1]
    close = [
        *difflib.get_close_matches(name.replace("faster-rcnn-", ""), variants, n=3, cutoff=0.6),
        *difflib.get_close_matches(end, variants, n=3, cutoff=0.5),
    ]
    near = list(dict.fromkeys(variants[variant] for variant in close))[:3]
    raise ValueError(
        f"there is no model '{text}'"
        + (f"; did you mean {', '.join(near)}?" if near else "")
        + f"\nmodels are {', '.join(known)}"
    )


def _spelled(text: str) -> Optional[str]:
    """The model of a name in any spelling, or None."""
    name = text.strip().lower().replace("_", "-")
    known = {model.replace("_", "-"): model for model in (*MODELS, *FASTER_RCNN_DEPTHS)}
    for candidate in (name, f"efficientdet-{name}", f"faster-rcnn-{name}"):
        if candidate in known:
            return known[candidate]
    return None


def efficientdet(
    name: str = "d0",
    num_classes: int = 90,
    *,
    image_size: Union[int, Tuple[int, int], None] = None,
    backbone: Union[str, None] = None,
    anchor_aspects: str = "exact",
    postprocess: Union[PostprocessConfig, None] = None,
    nms: str = "device",
) -> EfficientDet:
    """EfficientDet for inference, with random weights.

    Args:
        name: as `model_name` takes it.
        num_classes: class outputs; 90 are COCO's ids.
        image_size: pixels of the network input, one number or (height, width); None = the model's.
        backbone: another feature extractor, such as "timm:resnet18"; None = the model's.
        anchor_aspects: sides of the 2:1 anchors, "exact" or "rounded" (effdet).
        postprocess: settings of top-k and NMS.
        nms: "device" (in the graph) or "none" (`forward` returns the candidates).

    Returns:
        A module in evaluation mode: (B, 3, H, W) uint8 images -> boxes, scores, labels, count.

    Raises:
        ValueError: an unknown name or a setting out of range.
    """
    from dataclasses import replace

    from detectors.models.efficientdet.config import CONFIGS
    from detectors.models.efficientdet.inference import build_efficientdet
    from detectors.postprocess import PostprocessConfig

    model = model_name(name)
    if model not in CONFIGS:
        raise ValueError(f"there is no EfficientDet '{name}'; there are {', '.join(CONFIGS)}")
    config = CONFIGS[model]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    config = replace(
        config,
        num_classes=num_classes,
        image_size=size or config.image_size,
        backbone=backbone or config.backbone,
        anchor_aspects=anchor_aspects,
    )
    return build_efficientdet(config, postprocess or PostprocessConfig(), nms)


def faster_rcnn(
    name: str = "r50_c4",
    num_classes: int = 20,
    *,
    variant: str = "seed",
    image_size: Union[int, Tuple[int, int], None] = None,
    norm: str = "frozen",
    frozen_stages: int = 2,
    stride_in_1x1: bool = False,
    postprocess: Union[PostprocessConfig, None] = None,
    nms: str = "device",
) -> FasterRCNN:
    """Faster R-CNN for inference, with random weights.

    Args:
        name: "r18_c4", "r34_c4", "r50_c4" or "r101_c4"; also as "faster_rcnn-r50_c4", any case.
        num_classes: without the background.
        variant: whose anchors, sampling and losses: "seed", "pytorch-faster-rcnn" or "detectron2".
        image_size: pixels of the network input, one number or (height, width); None = 800.
        norm: "frozen" batch norms, or trained ones: "batch".
        frozen_stages: first stages that are not trained: 0 = none, 1 = stem, 2 = and layer1.
        stride_in_1x1: False for torchvision's and timm's weights, True for Caffe's and MSRA's.
        postprocess: settings of the last top-k and NMS; None = the variant's.
        nms: "device" (in the graph) or "none" (`forward` returns the candidates).

    Returns:
        A module in evaluation mode: (B, 3, H, W) uint8 images -> boxes, scores, labels, count. Its
        `for_training()` takes images, boxes, labels and keys, and returns the loss and its parts.

    Raises:
        ValueError: an unknown name or a setting out of range.
    """
    from dataclasses import replace

    from detectors.models.faster_rcnn.config import CONFIGS
    from detectors.models.faster_rcnn.inference import build_faster_rcnn

    model = _spelled(name)
    if model not in FASTER_RCNN_DEPTHS:
        raise ValueError(
            f"there is no Faster R-CNN '{name}'; there are r18_c4, r34_c4, r50_c4 and r101_c4"
        )
    if variant not in CONFIGS:
        raise ValueError(f"variant must be one of {list(CONFIGS)}, got '{variant}'")
    config = CONFIGS[variant]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    config = replace(
        config,
        name=model,
        depth=FASTER_RCNN_DEPTHS[model],
        num_classes=num_classes,
        image_size=size or config.image_size,
        norm=norm,
        frozen_stages=frozen_stages,
        stride_in_1x1=stride_in_1x1,
    )
    return build_faster_rcnn(config, postprocess, nms)


def __getattr__(name: str) -> Any:
    if name in ("load", "load_weights"):
        return getattr(importlib.import_module("detectors.weights"), name)
    raise AttributeError(f"module 'detectors' has no attribute '{name}'")
