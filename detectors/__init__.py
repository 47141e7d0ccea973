"""Object detectors as PopTorch programs.

    from detectors import efficientdet
    model = efficientdet("d0")

Nothing but this file is imported until a model is built.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Tuple, Union

if TYPE_CHECKING:
    from detectors.models.efficientdet.inference import EfficientDet
    from detectors.postprocess import PostprocessConfig
    from detectors.weights import load as load

__all__ = ["MODELS", "efficientdet", "load", "model_name"]

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
"""Every model there is."""


def model_name(text: str) -> str:
    """The model a person means: `d0` and `EfficientDet_D0` are both `efficientdet-d0`.

    Raises:
        ValueError: there is none of that name; the message has the nearest.
    """
    name = text.strip().lower().replace("_", "-")
    for candidate in (name, f"efficientdet-{name}"):
        if candidate in MODELS:
            return candidate
    # What a person mistypes or makes up is the variant: compare that alone.
    variants = {model.split("-")[1]: model for model in MODELS}
    close = difflib.get_close_matches(name.split("-")[-1], variants, n=3, cutoff=0.5)
    near = [variants[variant] for variant in close]
    raise ValueError(
        f"there is no model '{text}'; "
        + (f"did you mean {', '.join(near)}?" if near else f"models are {', '.join(MODELS)}")
    )


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

    config = CONFIGS[model_name(name)]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    config = replace(
        config,
        num_classes=num_classes,
        image_size=size or config.image_size,
        backbone=backbone or config.backbone,
        anchor_aspects=anchor_aspects,
    )
    return build_efficientdet(config, postprocess or PostprocessConfig(), nms)


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("detectors.weights").load
    raise AttributeError(f"module 'detectors' has no attribute '{name}'")
