"""The detectors that are trained beside each other: ours, effdet's, and one that learns next to
nothing.

    ours     this repository's EfficientDet
    effdet   effdet's network, initialisation, anchors, matching and loss, at the same settings
    biases   ours at random, of which only the biases of the two last layers are trained: it learns
             how common the classes are and how large their boxes, and never sees a picture

All take the same batches and are detected with in the same way: of each, the same candidates go
through the same NMS. B images of H x W pixels, G boxes after padding, C classes, A anchors a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from detectors.commands.train.model import EVALUATION, build_model, configuration
from detectors.experiment.recipe import Recipe
from detectors.layers import Normalise
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.postprocess import Detections, Postprocess

__all__ = ["CONTENDERS", "Contender", "require_comparable"]

ClassNames = Sequence[Optional[str]]
"""By the model's label; None for an output that no class has (`data.labels=ids`)."""

YX = [1, 0, 3, 2]  # effdet has y before x, in boxes and in deltas


@dataclass(frozen=True)
class Contender:
    """One network with two faces on the same parameters."""

    training: nn.Module
    """(images, gt_boxes, gt_labels, keys) -> loss (), and its parts."""
    model: nn.Module
    """(B, 3, H, W) uint8 -> `Detections`; its state is what is saved and averaged."""
    differences: Tuple[str, ...] = ()
    """From ours, where the settings cannot bridge them."""


def ours(recipe: Recipe, class_names: ClassNames) -> Contender:
    """Built as train.py builds it."""
    model, _ = build_model(recipe, class_names)
    return Contender(model.for_training(), model)


def biases(recipe: Recipe, class_names: ClassNames) -> Contender:
    """Ours, frozen but for the biases that class logits and box deltas end with."""
    contender = ours(recipe, class_names)
    contender.model.requires_grad_(False)
    for name, parameter in contender.model.named_parameters():
        if name.endswith("_head.predict.pointwise.bias"):
            parameter.requires_grad_(True)
    return contender


def effdet(recipe: Recipe, class_names: ClassNames) -> Contender:
    """effdet's, with its own random weights of the recipe's seed."""
    config = configuration(recipe, len(class_names))
    assert isinstance(config, EfficientDetConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        training = EffdetTraining(config)
    return Contender(training, EffdetDetector(config, training), DIFFERENCES)


CONTENDERS: Dict[str, Callable[[Recipe, ClassNames], Contender]] = {
    "ours": ours,
    "effdet": effdet,
    "biases": biases,
}


class EffdetTraining(nn.Module):
    """effdet's `DetBenchTrain` behind our contract.

    Args:
        config: of ours; effdet's gets the same image size, classes, anchors and loss.
    """

    def __init__(self, config: EfficientDetConfig) -> None:
        super().__init__()
        import effdet as package  # a peer, not a dependency

        theirs = package.get_efficientdet_config("tf_" + config.name.replace("-", "_"))
        theirs.update(effdet_settings(config))
        self.normalise = Normalise(config.mean, config.std)
        self.bench = package.DetBenchTrain(package.EfficientDet(theirs, pretrained_backbone=False))
        for module in self.bench.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.norm_momentum

    def forward(
        self, images: Tensor, gt_boxes: Tensor, gt_labels: Tensor, keys: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Loss () and its two parts (2,), arguments as of `EfficientDetTraining`."""
        labels = torch.where(gt_labels >= 0, gt_labels + 1, gt_labels).float()  # from 1 on
        target = {"bbox": gt_boxes[..., YX], "cls": labels}
        out: Dict[str, Tensor] = self.bench(self.normalise(images), target)
        weight = self.bench.config.box_loss_weight
        return out["loss"], torch.stack([out["class_loss"], out["box_loss"] * weight])


class EffdetDetector(nn.Module):
    """effdet's network and anchors with our candidates and NMS, so that what is compared is what
    was learnt.

    Args:
        config: of ours.
        training: whose network it is.
    """

    def __init__(self, config: EfficientDetConfig, training: EffdetTraining) -> None:
        super().__init__()
        self.normalise = training.normalise
        self.network = training.bench.model
        anchors: Tensor = training.bench.anchors.boxes
        self.postprocess = Postprocess(anchors[:, YX].clone(), config.image_size, EVALUATION)
        self.num_classes = config.num_classes

    def forward(self, images: Tensor) -> Detections:
        """Detect in (B, 3, H, W) uint8."""
        logits, deltas = self.network(self.normalise(images))
        found: Detections = self.postprocess(
            [rows(level, self.num_classes) for level in logits],
            [rows(level, 4)[..., YX] for level in deltas],
        )
        return found


def rows(level: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) -> (B, H * W * A, width), the order of the anchors."""
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, width)


def effdet_settings(config: EfficientDetConfig) -> Dict[str, Any]:
    """Of effdet's configuration, what ours says."""
    return {
        "image_size": tuple(config.image_size),
        "num_classes": config.num_classes,
        "num_scales": config.anchor_octaves,
        "aspect_ratios": [tuple(pair) for pair in config.anchor_factors],
        "anchor_scale": config.anchor_scale,
        "alpha": config.loss.alpha,
        "gamma": config.loss.gamma,
        "delta": config.loss.delta,
        "box_loss_weight": config.loss.box_weight,
        "label_smoothing": config.loss.label_smoothing,
        "legacy_focal": False,
        "jit_loss": False,
        "backbone_args": {"drop_path_rate": 0.0},
    }


DIFFERENCES = (
    "effdet's initialisation: other random weights",
    "effdet's box loss leaves out single targets that are exactly 0",
    "effdet ignores no region: anchors in crowds are background",
)
"""What stays effdet's own."""


def require_comparable(recipe: Recipe) -> None:
    """Refuse what the contenders cannot share.

    Args:
        recipe: resolved.

    Raises:
        ValueError: says which setting, and what would do.
    """
    if recipe.model.name == "faster_rcnn":
        raise ValueError("model.name=faster_rcnn: effdet has EfficientDets; name one of them")
    wanted: Dict[str, Tuple[object, object]] = {
        "model.weights": (recipe.model.weights, "random"),
        "model.survival": (recipe.model.survival, 1.0),
        "model.norm": (recipe.model.norm.value, "batch"),
        "model.frozen": (list(recipe.model.frozen), []),
        "precision": (recipe.precision.value, "fp32"),
        "device_iterations": (recipe.device_iterations, 1),
        "trainer.max_time": (recipe.trainer.max_time, None),
    }
    for key, (got, needed) in wanted.items():
        if got != needed:
            text = "null" if needed is None else str(needed)
            raise ValueError(f"{key}={got}: contenders that share it need {key}={text}")
