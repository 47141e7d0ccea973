"""A dataset's pictures in the network's input, for training and for evaluation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Callable, Optional, Sequence, Tuple

import torch

from data.annotations import Dataset
from data.augmentation import Augmentation, augment_sample
from data.collate import Batch, Placed, Placement, collate
from data.fitting import Fit, fit_sample
from data.mosaic import make_mosaic, partners
from data.randomness import key_of
from data.reading import UnreadableImageError
from data.sample import Sample, no_boxes, no_labels
from data.sampler import Order

__all__ = ["BlankImages", "EvaluationImages", "TrainingImages", "collator"]

MAX_ATTEMPTS = 10  # of so many drawn at random some can be read, or the disk is gone


class TrainingImages:
    """Pictures by draw (see `data.sampler`), augmented and placed.

    Args:
        dataset: of samples.
        fit: the network's input.
        augmentation: what is changed.
        seed: of everything random.
        first: a change before all others, given the picture's key; see `data.albumentations`.
        skip_bad: a picture that can no longer be read is replaced by another, drawn from
            (seed, draw); `Placement.instead_of` names it, of a mosaic's the first. Else it raises.
        open_for: pictures of the run, in the order of (its length, seed), that may become mosaics;
            those behind them do not. None: all.
    """

    def __init__(
        self,
        dataset: Dataset,
        fit: Fit,
        augmentation: Augmentation,
        seed: int,
        *,
        first: Optional[Callable[[Sample, int], Sample]] = None,
        skip_bad: bool = False,
        open_for: Optional[int] = None,
    ) -> None:
        self.dataset = dataset
        self.fit = fit
        self.augmentation = augmentation
        self.seed = seed
        self.first = first
        self.skip_bad = skip_bad
        self.open_for = open_for
        self.order = Order(len(dataset), seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: int) -> Placed:
        epoch, index, sample, bad = self.readable(draw)
        key = key_of(self.seed, epoch, index)
        samples, boxes = [self.changed(sample, key)], len(sample.boxes)
        for number, partner in enumerate(self.partners(draw), start=1):
            _, _, sample, other = self.readable(epoch * len(self) + partner)
            samples.append(self.changed(sample, key_of(key, number, partner)))
            boxes, bad = boxes + len(sample.boxes), bad or other
        numbers = {"seed": self.seed, "epoch": epoch, "index": index}
        if len(samples) == 1:
            placed = augment_sample(samples[0], self.fit, self.augmentation, **numbers)
        else:
            placed = make_mosaic(samples, self.fit, self.augmentation, **numbers)
        cut = boxes - sum(len(sample.boxes) for sample in samples) + placed.placement.cut
        return placed._replace(placement=replace(placed.placement, cut=cut, instead_of=bad))

    def partners(self, draw: int) -> Tuple[int, ...]:
        """The pictures of a draw's mosaic but its first; none where it is no mosaic."""
        probability = self.augmentation.mosaic
        if not probability:
            return ()
        if self.open_for is not None and self.order.position(draw) >= self.open_for:
            return ()
        epoch, index = divmod(draw, len(self))
        return partners(probability, len(self), seed=self.seed, epoch=epoch, index=index)

    def changed(self, sample: Sample, key: int) -> Sample:
        """What `first` makes of a picture."""
        return sample if self.first is None else self.first(sample, key)

    def readable(self, draw: int) -> Tuple[int, int, Sample, str]:
        """A draw's epoch, picture and sample; another picture's where it cannot be read, and then
        the name of the one that cannot.

        Raises:
            RuntimeError: it cannot be read and is not to be skipped, or others cannot be either.
        """
        epoch, index = divmod(draw, len(self))
        bad = ""
        for attempt in range(MAX_ATTEMPTS):
            try:
                return epoch, index, self.dataset[index], bad
            except UnreadableImageError as error:
                if not self.skip_bad:
                    raise RuntimeError(
                        f"image cannot be read any more: {error}"
                        "\ndata.skip_bad=true goes on with another in its place"
                    ) from None
                bad = bad or str(self.dataset.annotations.names[index])
            index = key_of(self.seed, draw, attempt) % len(self)
        raise RuntimeError(f"{MAX_ATTEMPTS} images in turn cannot be read, the first is {bad}")


class BlankImages:
    """The form of `TrainingImages`, at no cost: every draw is black and has no box. Names and sizes
    are not those of the pictures.

    Args:
        images: whose form; nothing of them is read.
    """

    def __init__(self, images: TrainingImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: int) -> Placed:
        size = self.images.fit.size
        pixels = torch.zeros(3, *size, dtype=torch.uint8)
        return Placed(pixels, no_boxes(), no_labels(), 0, Placement("blank", draw, size, 1.0))


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
