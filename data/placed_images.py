"""A dataset's pictures in the network's input, for training and for evaluation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Callable, Optional, Sequence

from data.annotations import Dataset
from data.augmentation import Augmentation, augment_sample
from data.collate import Batch, Placed, collate
from data.fitting import Fit, fit_sample
from data.randomness import key_of
from data.sample import Sample

__all__ = ["EvaluationImages", "TrainingImages", "collator"]


class TrainingImages:
    """Pictures by draw (see `data.sampler`), augmented and placed.

    Args:
        dataset: of samples.
        fit: the network's input.
        augmentation: what is changed.
        seed: of everything random.
        first: a change before all others, given the picture's key; see `data.albumentations`.
    """

    def __init__(
        self,
        dataset: Dataset,
        fit: Fit,
        augmentation: Augmentation,
        seed: int,
        *,
        first: Optional[Callable[[Sample, int], Sample]] = None,
    ) -> None:
        self.dataset = dataset
        self.fit = fit
        self.augmentation = augmentation
        self.seed = seed
        self.first = first

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: int) -> Placed:
        epoch, index = divmod(draw, len(self.dataset))
        sample = self.dataset[index]
        lost = 0
        if self.first is not None:
            changed = self.first(sample, key_of(self.seed, epoch, index))
            lost = len(sample.boxes) - len(changed.boxes)
            sample = changed
        placed = augment_sample(
            sample, self.fit, self.augmentation, seed=self.seed, epoch=epoch, index=index
        )
        placement = replace(placed.placement, cut=placed.placement.cut + lost)
        return placed._replace(placement=placement)


class EvaluationImages:
    """Pictures by index, placed and otherwise as they are.

    Args:
        dataset: of samples.
        fit: the network's input.
        seed: of the keys, which a validation loss needs.
    """

    def __init__(self, dataset: Dataset, fit: Fit, seed: int = 0) -> None:
        self.dataset = dataset
        self.fit = fit
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Placed:
        return fit_sample(self.dataset[index], self.fit, key_of(self.seed, 0, index))


def collator(max_boxes: int) -> Callable[[Sequence[Placed]], Batch]:
    """`collate` for a DataLoader; goes to other processes as it is."""
    return partial(collate, max_boxes=max_boxes)
