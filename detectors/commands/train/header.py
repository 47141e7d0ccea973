"""What a run says before it starts, in at most twelve lines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Optional, Sequence

from torch import nn

from detectors.experiment.atomic import disk_size
from detectors.experiment.averages import averaged_names
from detectors.experiment.recipe import Device, Norm, Precision, Recipe, image_size
from detectors.weights.family import Detector

__all__ = [
    "checkpoint_bytes",
    "data_lines",
    "device_line",
    "deviations",
    "learning_rate_line",
    "model_line",
    "require_space",
    "schedule_line",
]

CHECKPOINTS = 3  # last, best, and the temporary one that becomes one of them
OUTPUTS = 50_000_000  # bytes: detections, logs

PUBLISHED = {
    "seed": "Graphcore's run",
    "pytorch-faster-rcnn": "pytorch-faster-rcnn's",
    "detectron2": "Detectron2's",
}
MIXED = {
    True: "fp16 backbone and RPN, fp32 box head",
    False: "fp16 backbone and pyramid, fp32 heads",
}
THEIR_FIT = {"seed": "squash", "pytorch-faster-rcnn": "short_edge", "detectron2": "short_edge"}


def device_line(recipe: Recipe, device: str) -> str:
    """`device cpu (auto) · fp32`; a recipe in mixed precision on a CPU is told that it is not."""
    chosen = " (device=auto)" if recipe.device is Device.auto else ""
    if recipe.precision is Precision.fp32:
        return f"device {device}{chosen} · fp32"
    plan = {
        "ipu": f"mixed: {MIXED[recipe.model.name == 'faster_rcnn']}",
        "cuda": "mixed: autocast",
        "cpu": "fp32 (precision=mixed has a plan for IPU and CUDA, none for the CPU)",
    }
    return f"device {device}{chosen} · {plan[device]}"


def model_line(
    recipe: Recipe, model: Detector, class_names: Sequence[Optional[str]], loaded: str
) -> str:
    """Name, parameters, input, what it starts from."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    height, width = image_size(recipe)
    norm = "batch norms trained" if recipe.model.norm is Norm.batch else "batch norms frozen"
    variant = f" ({recipe.model.variant})" if recipe.model.name == "faster_rcnn" else ""
    return (
        f"model {model.config.name}{variant} · "
        f"{parameters / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained, {norm} · "
        f"{height}x{width} · {classes_in_words(class_names)} · {loaded}"
    )


def classes_in_words(class_names: Sequence[Optional[str]]) -> str:
    """`20 classes`, `80 classes in 90 slots`."""
    named, slots = sum(name is not None for name in class_names), len(class_names)
    return f"{named} classes" + (f" in {slots} slots" if named < slots else "")


def data_lines(summary: Sequence[str], changed: bool) -> List[str]:
    """What was found on disk.

    Args:
        summary: of the datasets.
        changed: the data of the run that is resumed was another.
    """
    note = "warning: the data changed since this run began (names, sizes or annotations differ)"
    return [*summary, note] if changed else list(summary)


def schedule_line(recipe: Recipe, images: int) -> str:
    """Steps, what a step is, epochs, optimizer, stages."""
    per_step, steps, optim = recipe.images_per_step, recipe.trainer.max_steps, recipe.optim
    parts = [
        f"micro-batch {recipe.micro_batch_size}",
        f"accumulation {recipe.gradient_accumulation}",
    ]
    if recipe.replication_factor > 1:
        parts.append(f"{recipe.replication_factor} replicas")
    stages = len(recipe.pipeline.splits) + 1
    return (
        f"schedule {steps} steps of {per_step} image{'' if per_step == 1 else 's'}"
        f" ({' x '.join(parts)})"
        f" = {steps * per_step / images:.3g} epochs · {optim.name.value}, lr {scaled_lr(recipe):g}"
        f" {optim.schedule.value}, warm-up {optim.warmup_steps}"
        f" · {stages} stage{'' if stages == 1 else 's'}"
    )


def scaled_lr(recipe: Recipe) -> float:
    """The learning rate after the warm-up."""
    optim = recipe.optim
    factor = recipe.images_per_step / optim.base_batch if optim.scale_lr else 1.0
    return optim.lr * factor


def learning_rate_line(recipe: Recipe) -> List[str]:
    """The linear rule, where the batch is not the one that the learning rate is meant for."""
    optim, images = recipe.optim, recipe.images_per_step
    if images == optim.base_batch:
        return []
    rule = f"lr {optim.lr:g} is for {optim.base_batch} images per step, this run has {images}"
    by_rule = f"{optim.lr * images / optim.base_batch:.3g}"
    if optim.scale_lr:
        return [f"{rule}: scaled to {by_rule} (optim.scale_lr=true)"]
    return [f"{rule}: unchanged; the linear rule's {by_rule} comes with optim.scale_lr=true"]


def deviations(recipe: Recipe) -> List[str]:
    """How a recipe for VOC 07+12 differs from the run whose score it states; one line or none."""
    if not recipe.name.startswith("voc0712"):
        return []
    model, height_width = recipe.model, image_size(recipe)
    differs = [f"weights to start from: {model.weights}"]
    if not model.stride_in_1x1:
        differs.append("stride in the 3x3 of each block")
    if recipe.image.fit != THEIR_FIT[model.variant]:
        differs.append(f"pictures by {recipe.image.fit}, not {THEIR_FIT[model.variant]}")
    elif recipe.image.fit == "short_edge":
        differs.append(f"scales drawn inside one {height_width[0]}x{height_width[1]} canvas")
    differs.append("no +1 in boxes" if model.variant != "detectron2" else "static sampling")
    return [f"differs from {PUBLISHED[model.variant]}: {', '.join(differs)}"]


def checkpoint_bytes(model: nn.Module, recipe: Recipe) -> int:
    """Of one checkpoint: weights, buffers, what the optimizer keeps of each trained weight, and
    the averages.
    """
    kept = {"sgd": 1, "rmsprop": 1}.get(recipe.optim.name.value, 2)  # tensors per weight
    tensors = model.state_dict()
    state = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    averaged = averaged_names(model) if recipe.optim.ema else []
    averages = sum(tensors[name].numel() * tensors[name].element_size() for name in averaged)
    return int(state + kept * trained + averages)


def require_space(root: Path, checkpoint: int) -> str:
    """Refuse to start what the disk has no room for.

    Args:
        root: of the run folders; it or a parent of it exists.
        checkpoint: bytes.

    Returns:
        What was found, for the header.

    Raises:
        RuntimeError: less is free than the run will write.
    """
    needed = CHECKPOINTS * checkpoint + OUTPUTS
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise RuntimeError(
            f"disk: {disk_size(free)} free at {place}, the run needs {disk_size(needed)}"
            f" ({CHECKPOINTS} checkpoints of {disk_size(checkpoint)}, and its outputs);"
            " make room, or name another place with run.root=DIR"
        )
    return f"disk {disk_size(needed)} needed, {disk_size(free)} free"
