"""Recipes trained with stages and replicas on four ranks learn what one process learns, bit for bit
but for the order of sums: sampling of proposals and stochastic depth included. Rank 0 makes the
comparison.
"""

from __future__ import annotations

import os
from typing import Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

from detectors.commands.train.model import build_model
from detectors.experiment.optimizer import build_optimizer
from detectors.experiment.recipe import Recipe, image_size, load_recipe, poptorch_options, resolve
from detectors.splits import apply_splits
from poplar_ops.runtime import poptorch

STEPS = 5
SMALL = ("micro_batch_size=1", "image.size=96", "data.max_boxes=4")
EFFICIENTDET = ("micro_batch_size=2", "model.weights=random", "model.survival=0.8")
CHANGES = {
    "generated": (*SMALL, "gradient_accumulation=7"),
    "generated in replicas": (
        *(*SMALL, "gradient_accumulation=3", "replication_factor=2"),
        "pipeline.splits=[backbone.layer4.0]",
    ),
    "voc0712_mixed": (
        *(*SMALL, "gradient_accumulation=7", "model.weights=random", "model.depth=18"),
        *("model.rpn.pre_nms=[200, 100]", "model.rpn.post_nms=[60, 30]", "model.rpn.channels=64"),
        *("model.rpn.num_samples=32", "model.box_head.num_samples=8", "optim.max_grad_norm=5"),
    ),
    "coco_d0": (*SMALL, *EFFICIENTDET, "gradient_accumulation=7"),
    "coco_d0 in replicas": (
        *(*SMALL, *EFFICIENTDET, "gradient_accumulation=3", "replication_factor=2"),
        "pipeline.splits=[bifpn.cells.0]",
    ),
}


class Run(NamedTuple):
    """What five steps make of a recipe."""

    losses: List[Tensor]
    weights: Dict[str, Tensor]
    state: Dict[str, Tensor]


def train(case: str, schedule: str) -> Run:
    """Run a recipe's executor on noise with boxes."""
    poptorch.host.configure(schedule=schedule)
    recipe = resolve(load_recipe(case.split()[0], CHANGES[case]))
    names = [str(number) for number in range(3)]
    model, _ = build_model(recipe, names, quiet=True)
    training = apply_splits(model.for_training(), recipe.pipeline.splits)
    optimizer = build_optimizer(training, recipe.optim, poptorch=True)
    executor = poptorch.trainingModel(training, poptorch_options(recipe), optimizer=optimizer)
    losses = [executor(*pictures(recipe, step, len(names)))[1] for step in range(STEPS)]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = optimizer.state_dict()["ipu_state"]
    executor.destroy()
    return Run(losses, weights, state)


def pictures(recipe: Recipe, step: int, classes: int) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """The images, boxes, labels and keys of a step."""
    count, (height, width) = recipe.images_per_step, image_size(recipe)
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator
    )
    slots = recipe.data.max_boxes
    corners = torch.rand(count, slots, 2, generator=generator) * (height - 70)
    sides = 24 + torch.rand(count, slots, 2, generator=generator) * 40
    labels = torch.randint(0, classes, (count, slots), dtype=torch.int32, generator=generator)
    is_box = torch.arange(slots) < (1 + torch.arange(count) % 3)[:, None]
    boxes = torch.cat([corners, corners + sides], dim=-1) * is_box[..., None]
    labels = torch.where(is_box, labels, torch.full_like(labels, -1))
    return images, boxes, labels, torch.arange(count, dtype=torch.int32) + 1000 * step


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case, schedule in zip(CHANGES, ("1f1b", "gpipe", "1f1b", "1f1b", "gpipe")):
        alone = train(case, "sequential") if os.environ["RANK"] == "0" else None
        together = train(case, schedule)
        if alone is not None:
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
            print(f"{case} holds", flush=True)
