"""A plain loop that trains any contender on a recipe's batches, and goes on where it was stopped.

Batches, their order, the optimizer, learning rates, clipping and averages of the weights are the
recipe's, as train.py has them; the loop is torch's alone.
"""

from __future__ import annotations

import io
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_contenders import Contender

from data.collate import Batch, Placed
from data.placed_images import EvaluationImages, collator
from data.sampler import StepSampler
from detectors.commands.evaluate.judge import Judge
from detectors.commands.train.datasets import Datasets
from detectors.commands.train.model import configuration
from detectors.commands.train.pictures import detection_data, fit_of
from detectors.experiment.atomic import write_whole
from detectors.experiment.averages import averaged_names, decay_over
from detectors.experiment.learning_rate import learning_rate
from detectors.experiment.optimizer import build_optimizer
from detectors.experiment.recipe import Recipe, recipe_yaml
from detectors.weights.preprocess import from_statistics
from detectors.weights.tensor_file import read_tensor_file

__all__ = ["Loop", "detect"]

SAY_EVERY = 20  # steps


class Loop:
    """The training of one contender.

    Args:
        contender: trained in place.
        recipe: resolved.
        device: of torch.
    """

    def __init__(self, contender: Contender, recipe: Recipe, device: str) -> None:
        self.contender = contender
        self.recipe = recipe
        self.device = device
        self.model, self.training = contender.model.to(device), contender.training.to(device)
        self.optimizer = self.build_optimizer()
        self.rate = learning_rate(recipe.optim, recipe.images_per_step, recipe.trainer.max_steps)
        self.trained = [one for one in self.training.parameters() if one.requires_grad]
        self.averages: Dict[str, Tensor] = {}
        if recipe.optim.ema:
            state = self.model.state_dict()
            self.averages = {name: state[name].clone() for name in averaged_names(self.model)}
        self.averaged = 0
        """Updates that the averages cover."""
        self.step = 0
        self.seconds = 0.0
        """Of all steps so far, waiting for pictures included."""

    def build_optimizer(self) -> torch.optim.Optimizer:
        """The recipe's, without what `update` does itself."""
        optim = replace(self.recipe.optim, max_grad_norm=0.0, loss_scaling=1.0)
        return build_optimizer(self.training, optim, poptorch=False)

    def update(self, micro_batches: List[Batch]) -> Tensor:
        """One step; the mean loss of its micro-batches, ()."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for batch in micro_batches:
            loss, _ = self.training(*batch.to(self.device).tensors)
            loss = loss / len(micro_batches)
            loss.backward()
            total += loss.detach()
        if self.recipe.optim.max_grad_norm:
            nn.utils.clip_grad_norm_(self.trained, self.recipe.optim.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        self.average()
        return total

    def average(self) -> None:
        """Move the averages, at every `optim.ema_every`-th step."""
        optim = self.recipe.optim
        if not self.averages or self.step % optim.ema_every:
            return
        state = self.model.state_dict()
        weight = 1 - decay_over(optim.ema, self.averaged, self.step)
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(state[name], weight)
        self.averaged = self.step

    def run(self, datasets: Datasets, name: str, path: Path, save_every: int) -> None:
        """Train to the end, from a checkpoint if there is one.

        Args:
            datasets: of the recipe.
            name: for the lines on stderr.
            path: of the checkpoint.
            save_every: steps.

        Raises:
            ValueError: the checkpoint is of another recipe.
            RuntimeError: the loss is not finite.
        """
        if path.exists():
            self.load(path)
        self.training.train()
        steps, began, before = self.recipe.trainer.max_steps, time.perf_counter(), self.seconds
        for micro_batches in self.batches(datasets):
            loss = float(self.update(micro_batches))
            self.seconds = before + time.perf_counter() - began
            if not math.isfinite(loss):
                raise RuntimeError(f"{name}: the loss of step {self.step} is {loss}")
            if self.step % SAY_EVERY == 0 or self.step == steps:
                speed = self.step * self.recipe.images_per_step / self.seconds
                left = (steps - self.step) * self.seconds / self.step
                print(
                    f"{name} step {self.step}/{steps} loss {loss:.4f}"
                    f" {speed:.2f} images/s, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
            if self.step % save_every == 0 or self.step == steps:
                self.save(path)
        state = self.model.state_dict()
        with torch.no_grad():
            for key, average in self.averages.items():
                state[key].copy_(average)

    def batches(self, datasets: Datasets) -> Iterator[List[Batch]]:
        """The micro-batches of each step that is left."""
        recipe = self.recipe
        if self.step >= recipe.trainer.max_steps:
            return
        loader = detection_data(recipe, datasets, pad_of(recipe)).train_dataloader()
        sampler = loader.sampler
        assert isinstance(sampler, StepSampler)
        sampler.start = self.step
        count, gathered = recipe.images_per_step // recipe.micro_batch_size, []
        for batch in loader:
            gathered.append(batch)
            if len(gathered) == count:
                yield gathered
                gathered = []

    def save(self, path: Path) -> None:
        """Write everything that going on needs; whole or not at all."""
        content = {
            "recipe": recipe_yaml(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": self.averages,
            "averaged": self.averaged,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(path, buffer.getbuffer())

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        content = read_tensor_file(path).content
        if content["recipe"] != recipe_yaml(self.recipe):
            raise ValueError(
                f"{path} is of other settings: give another --out, or remove it to begin anew"
            )
        self.step, self.seconds = content["step"], content["seconds"]
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.averages = {name: one.to(self.device) for name, one in content["averages"].items()}
        self.averaged = content["averaged"]


def pad_of(recipe: Recipe) -> Tuple[int, int, int]:
    """The colour beside pictures, as a training from random weights has it."""
    config = configuration(recipe, 1)
    return from_statistics(config.mean, config.std).pad


def detect(
    model: nn.Module, datasets: Datasets, recipe: Recipe, judge: Judge, device: str, step: int
) -> None:
    """Let a judge see what a model finds in all pictures of the set to evaluate on."""
    assert datasets.val is not None
    loader: DataLoader[Placed] = DataLoader(
        EvaluationImages(datasets.val, fit_of(recipe, pad_of(recipe))),  # type: ignore[arg-type]  # has items
        batch_size=recipe.evaluate.micro_batch_size,
        num_workers=recipe.data.workers,
        collate_fn=collator(1),  # boxes are not asked for
    )
    model.eval()
    with torch.no_grad():
        for batch in loader:
            judge.add(model(batch.images.to(device)), batch.placements)
    judge.finish(step)
