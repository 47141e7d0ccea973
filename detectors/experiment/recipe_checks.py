"""What the values of a recipe must be, beyond their types, and what people call its keys."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple

from detectors import MODELS
from detectors.experiment.complaints import field_types, wrong_value
from detectors.experiment.structured import flat

if TYPE_CHECKING:
    from detectors.experiment.recipe import Recipe

__all__ = ["LIMITS", "NICKNAMES", "check_recipe", "other_family"]

NICKNAMES: Mapping[str, str] = {
    "accumulate_grad_batches": "gradient_accumulation",
    "accumulation": "gradient_accumulation",
    "batch": "micro_batch_size",
    "batch_size": "micro_batch_size",
    "checkpoint_every": "checkpoint.every_steps",
    "clip": "optim.max_grad_norm",
    "data_dir": "data.root",
    "data_path": "data.root",
    "dataset": "data.root",
    "epochs": "trainer.max_steps",
    "eval_every": "evaluate.every_steps",
    "gradient_clip_val": "optim.max_grad_norm",
    "imgsz": "image.size",
    "iterations": "trainer.max_steps",
    "learning_rate": "optim.lr",
    "max_epochs": "trainer.max_steps",
    "max_iter": "trainer.max_steps",
    "num_workers": "data.workers",
    "optimizer": "optim.name",
    "num_classes": "data.classes",
    "output_dir": "run.root",
    "path": "data.root",
    "pretrained": "model.weights",
    "replicas": "replication_factor",
    "root": "data.root",
    "schedule": "optim.schedule",
    "stages": "pipeline.splits",
    "wd": "optim.weight_decay",
}
"""What other projects call a key -> ours."""


class Limit(NamedTuple):
    """What a value must be."""

    words: str
    """Ends the sentence "optim.lr must be"."""
    holds: Callable[[Any], bool]
    """Of a value of the right type that is not null."""


def whole(low: int) -> Limit:
    return Limit(f"a whole number >= {low}", lambda value: bool(value >= low))


def number(words: str, low: float, high: float = math.inf, *, over: bool = False) -> Limit:
    def holds(value: float) -> bool:
        return math.isfinite(value) and (low < value if over else low <= value) and value <= high

    return Limit(f"a number {words}", holds)


def one_of(*words: str) -> Limit:
    return Limit(f"one of {', '.join(words)}", lambda value: value in words)


def some_of(*words: str) -> Limit:
    return Limit(f"a list of {', '.join(words)}", lambda value: set(value) <= set(words))


def interval(low: float, *, over: bool) -> Limit:
    """[smallest, largest] of a factor."""

    def holds(value: Any) -> bool:
        return (
            len(value) == 2
            and all(math.isfinite(one) for one in value)
            and (low < value[0] if over else low <= value[0])
            and value[0] <= value[1]
        )

    return Limit(f"[smallest, largest], both {'>' if over else '>='} {low:g}", holds)


def pair(words: str) -> Limit:
    return Limit(words, lambda value: len(value) == 2 and min(value) >= 1)


def positives(words: str) -> Limit:
    return Limit(words, lambda value: bool(value) and min(value) > 0)


def is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(type(one) is int and one >= 32 for one in sides)  # two cells of the feature map


def is_positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def is_scale(value: Any) -> bool:
    scales = value if isinstance(value, list) else [value]
    return bool(scales) and all(is_positive(one) for one in scales)


def is_aspects(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("exact", "rounded")
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, list) and len(one) == 2 for one in value)
        and all(is_positive(side) for one in value for side in one)
    )


def is_ascending(value: Any) -> bool:
    return all(one > 0 for one in value) and all(a < b for a, b in zip(value, value[1:]))


def matches(words: str, pattern: str) -> Limit:
    return Limit(words, lambda value: re.fullmatch(pattern, value) is not None)


FRACTION = number("0..1", 0, 1)
NAMES = Limit("a list of at least one name", bool)

RULES: Dict[str, Limit] = {
    "name": matches("a file's name", r"(?!\.)[^/\\]*"),
    "seed": Limit("a whole number 0..2147483647", lambda value: 0 <= value < 2**31),
    "micro_batch_size": whole(1),
    "gradient_accumulation": whole(1),
    "replication_factor": whole(1),
    "device_iterations": whole(1),
    "resume_changes": one_of("refuse", "allow"),
    "run.log_every_steps": whole(1),
    "run.loggers": some_of("tensorboard", "wandb"),
    "data.train": NAMES,
    "data.classes": Limit(
        "a list of at least one name, each once, or null",
        lambda value: bool(value) and len(set(value)) == len(value),
    ),
    "data.labels": one_of("order", "ids"),
    "data.difficult": one_of("use", "ignore", "leave_out"),
    "data.max_boxes": whole(1),
    "data.validation": number("over 0 and under 1", 0, 1 - 1e-9, over=True),
    "data.limit": whole(1),
    "data.workers": whole(0),
    "data.count": pair("[pictures to train on, to evaluate on], both >= 1"),
    "data.noise": Limit("a whole number 2..256", lambda value: 2 <= value <= 256),
    "image.size": Limit("a whole number >= 32, or [height, width] of such", is_size),
    "image.fit": one_of("letterbox", "squash", "short_edge"),
    "image.short_edges": Limit(
        "a list of whole numbers >= 16", lambda value: all(one >= 16 for one in value)
    ),
    "image.long_edge": whole(0),
    "augment.library": one_of("own", "albumentations", "none"),
    "augment.flip": FRACTION,
    "augment.scale": interval(0, over=True),
    "augment.scale_probability": FRACTION,
    "augment.place": one_of("middle", "anywhere", "corner"),
    "augment.mosaic": FRACTION,
    "augment.mosaic_close": FRACTION,
    "augment.colour_probability": FRACTION,
    "augment.brightness": number("0 <= b < 1", 0, 1 - 1e-9),
    "augment.contrast": interval(0, over=False),
    "augment.saturation": interval(0, over=False),
    "model.name": one_of("faster_rcnn", *MODELS),
    "model.pyramid.scale": Limit("a number > 0, or a list of one for each level", is_scale),
    "model.pyramid.octaves": whole(1),
    "model.pyramid.aspects": Limit(
        "exact, rounded, or pairs [width, height] of factors > 0 such as [[1,1],[1.4,0.7]]",
        is_aspects,
    ),
    "model.loss.alpha": FRACTION,
    "model.loss.gamma": number(">= 0", 0),
    "model.loss.label_smoothing": number("0 <= s < 1", 0, 1 - 1e-9),
    "model.loss.delta": number("> 0", 0, over=True),
    "model.loss.box_weight": number(">= 0", 0),
    "model.norm_momentum": number("over 0, up to 1", 0, 1, over=True),
    "model.survival": number("over 0, up to 1, or null", 0, 1, over=True),
    "model.depth": Limit("one of 18, 34, 50, 101", lambda value: value in (18, 34, 50, 101)),
    "model.variant": one_of("seed", "pytorch-faster-rcnn", "detectron2"),
    "model.weights": Limit("imagenet, random or a file", bool),
    "model.origin": one_of("torchvision", "timm", "caffe"),
    "model.head": one_of("new", "map"),
    "model.frozen_stages": Limit("a whole number 0..4, or null", lambda value: 0 <= value <= 4),
    "model.anchors.sizes": positives("a list of numbers > 0, or null"),
    "model.anchors.ratios": positives("a list of numbers > 0, or null"),
    "model.rpn.channels": whole(0),
    "model.rpn.num_samples": whole(1),
    "model.rpn.pre_nms": pair("[in training, in inference], both >= 1, or null"),
    "model.rpn.post_nms": pair("[in training, in inference], both >= 1, or null"),
    "model.box_head.pool_size": whole(1),
    "model.box_head.sampling_ratio": whole(0),
    "model.box_head.num_samples": whole(1),
    "model.box_head.score_threshold": FRACTION,
    "optim.lr": number("> 0", 0, over=True),
    "optim.momentum": number("0 <= m < 1", 0, 1 - 1e-9),
    "optim.weight_decay": number(">= 0", 0),
    "optim.max_grad_norm": number(">= 0 (0 = do not clip)", 0),
    "optim.loss_scaling": number("> 0", 0, over=True),
    "optim.steps": Limit("a list of ascending whole numbers > 0", is_ascending),
    "optim.gamma": number("> 0", 0, over=True),
    "optim.warmup_steps": whole(0),
    "optim.warmup_factor": FRACTION,
    "optim.base_batch": whole(1),
    "optim.ema": number("0 <= e < 1 (0 = no averages)", 0, 1 - 1e-9),
    "optim.ema_every": whole(1),
    "trainer.max_steps": whole(1),
    "trainer.max_time": matches("DD:HH:MM:SS, or null", r"\d+:\d{1,2}:\d{1,2}:\d{1,2}"),
    "checkpoint.every_steps": whole(1),
    "evaluate.every_steps": whole(0),
    "evaluate.flavours": Limit(
        "a list of one or more of voc07, voc12, coco",
        lambda value: bool(value) and set(value) <= {"voc07", "voc12", "coco"},
    ),
    "evaluate.metric": Limit("a score's name, such as AP50_voc07", bool),
    "evaluate.nms": Limit(
        "[hard], [soft], [hard, soft] or [soft, hard]",
        lambda value: (
            bool(value) and set(value) <= {"hard", "soft"} and len(set(value)) == len(value)
        ),
    ),
    "evaluate.coco_backend": one_of("pycocotools", "faster-coco-eval"),
    "evaluate.resamples": whole(0),
    "evaluate.micro_batch_size": whole(1),
    "evaluate.patience": whole(0),
    "ipu.available_memory_proportion": number("over 0, up to 1", 0, 1, over=True),
    "ipu.partials": one_of("float", "half"),
}
"""Key -> what its value must be."""
LIMITS: Mapping[str, str] = {key: limit.words for key, limit in RULES.items()}
"""Key -> what it must be, in words."""


OF_FASTER_RCNN = (
    "model.depth",
    "model.variant",
    "model.frozen_stages",
    "model.stride_in_1x1",
    "model.anchors.",
    "model.rpn.",
    "model.box_head.",
)
OF_EFFICIENTDET = (
    "model.pyramid.",
    "model.loss.",
    "model.survival",
    "model.norm_momentum",
    "model.frozen",
)


def other_family(key: str, model: str) -> bool:
    """Whether a key says nothing about this model, and is left out of its recipes."""
    faster_rcnn = key.startswith(OF_FASTER_RCNN)
    if model == "faster_rcnn":
        return key.startswith(OF_EFFICIENTDET) and not faster_rcnn
    return faster_rcnn


def check_recipe(recipe: Recipe) -> None:
    """Refuse values out of range, and settings that contradict each other.

    Raises:
        ValueError: with the key, what it must be and what it is.
    """
    kinds = field_types(type(recipe))
    for key, value in flat(recipe).items():
        if key in RULES and value is not None and not RULES[key].holds(value):
            raise ValueError(wrong_value(key, value, kinds[key], LIMITS[key]))
    check_family(recipe)
    check_weights(recipe)
    check_compose(recipe)
    check_metric(recipe)
    check_patience(recipe)
    check_pipeline(recipe)
    check_calls(recipe)
    check_clipping(recipe)


def check_family(recipe: Recipe) -> None:
    """Keys of another model must be what they are in the schema."""
    default = flat(type(recipe)())
    for key, value in flat(recipe).items():
        if other_family(key, recipe.model.name) and value != default[key]:
            raise ValueError(f"{key}={value} is not for model.name={recipe.model.name}: leave it")


def check_weights(recipe: Recipe) -> None:
    if recipe.weights is not None and recipe.task.name in ("train", "check", "throughput"):
        raise ValueError(
            f"the recipe has weights: {recipe.weights}, which is for task=evaluate;"
            f" to start training from it: model.weights={recipe.weights}"
        )


def check_compose(recipe: Recipe) -> None:
    augment = recipe.augment
    if augment.compose and augment.library != "albumentations":
        raise ValueError(
            f"augment.compose={augment.compose} is run by augment=albumentations alone, and"
            f" augment.library is {augment.library}: say both, or neither"
        )


def check_metric(recipe: Recipe) -> None:
    flavours = recipe.evaluate.flavours
    flavour = recipe.evaluate.metric.rpartition("_")[2]
    if flavour in ("voc07", "voc12", "coco") and flavour not in flavours:
        raise ValueError(
            f"evaluate.metric {recipe.evaluate.metric} needs {flavour} in evaluate.flavours,"
            f" got {flavours}"
        )


def check_patience(recipe: Recipe) -> None:
    evaluate = recipe.evaluate
    if evaluate.patience and not evaluate.every_steps:
        raise ValueError(
            f"evaluate.patience={evaluate.patience} counts evaluations, and there is one, at the"
            " end: set evaluate.every_steps"
        )


def check_pipeline(recipe: Recipe) -> None:
    stages = len(recipe.pipeline.splits) + 1
    least = 2 * stages - 1  # forward and backward stages, each with a micro-batch of its own
    if stages > 1 and recipe.gradient_accumulation < least:
        raise ValueError(
            f"gradient_accumulation must be at least {least} to keep {stages} pipeline stages"
            f" busy, got {recipe.gradient_accumulation}; or pipeline.splits=[]"
        )
    if recipe.pipeline.checkpoints and not recipe.pipeline.recompute:
        raise ValueError(
            "pipeline.checkpoints is what recomputed stages keep, got"
            f" {len(recipe.pipeline.checkpoints)} names and pipeline.recompute=false: set"
            " pipeline.recompute=true, or pipeline.checkpoints=[]"
        )


def check_calls(recipe: Recipe) -> None:
    per_call = recipe.device_iterations
    for key, steps in (
        ("trainer.max_steps", recipe.trainer.max_steps),
        ("evaluate.every_steps", recipe.evaluate.every_steps),
    ):
        if steps % per_call:
            raise ValueError(
                f"{key} must be a multiple of device_iterations={per_call}, the steps of one call"
                f" of the device, got {steps}; {steps + -steps % per_call} would do"
            )


def check_clipping(recipe: Recipe) -> None:
    optim = recipe.optim
    if optim.max_grad_norm and optim.name.name in ("rmsprop", "lamb"):
        raise ValueError(
            f"optim.max_grad_norm={optim.max_grad_norm:g}: PopTorch's {optim.name.name} does not"
            " clip gradients; set it to 0, or optim.name to sgd, adam or adamw"
        )
