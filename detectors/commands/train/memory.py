"""Out of memory, as a person can act on it: what was asked for, and what asks for less."""

from __future__ import annotations

import resource
import sys
from contextlib import contextmanager
from typing import Iterator

import torch
from torch import nn

from detectors.commands.screen import is_out_of_memory
from detectors.experiment.atomic import disk_size
from detectors.experiment.recipe import Recipe, image_size

__all__ = ["explained_memory", "memory_text", "peak_memory"]


@contextmanager
def explained_memory(recipe: Recipe, device: str, model: nn.Module) -> Iterator[None]:
    """Turn an allocator's error into one that names the settings.

    Raises:
        RuntimeError: memory ran out in here.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RuntimeError(memory_text(recipe, device, model)) from error


def memory_text(recipe: Recipe, device: str, model: nn.Module) -> str:
    """Device, batch, image size, peak, the model's share, and the same batch in smaller parts."""
    height, width = image_size(recipe)
    share = sum(p.numel() * p.element_size() for p in model.parameters())
    batch, accumulation = recipe.micro_batch_size, recipe.gradient_accumulation
    text = (
        f"out of memory on {device}: micro-batch {batch} of {height}x{width}, peak"
        f" {disk_size(peak_memory(device))}, of which weights {disk_size(share)};"
        " checkpoints are untouched\n"
    )
    if batch == 1:
        if recipe.model.name != "faster_rcnn":
            return text + "image.size, data.max_boxes or a smaller model.name needs less"
        return text + "image.size, model.box_head.num_samples or model.depth: smaller needs less"
    smaller = max(part for part in range(1, batch) if batch % part == 0)
    more = accumulation * (batch // smaller)
    return text + f"micro_batch_size={smaller} gradient_accumulation={more} gives the same batch"


def peak_memory(device: str) -> int:
    """Bytes: of the GPU, or of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
