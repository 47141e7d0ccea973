"""Pictures for Lightning: loaders whose order a resumed run enters where it was left."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, List, Optional, Tuple

import lightning.pytorch as lightning
from torch.utils.data import DataLoader

from data.annotations import Dataset
from data.augmentation import Augmentation
from data.collate import Batch, Placed
from data.fitting import Fit
from data.placed_images import BlankImages, EvaluationImages, TrainingImages, collator
from data.sample import Sample
from data.sampler import EpochSampler, Order, StepSampler, shared_out
from data.workers import leave_signals

__all__ = ["DetectionData"]

logger = logging.getLogger(__name__)


class OrderedLoader(DataLoader[Placed]):
    """A DataLoader that Lightning takes for resumable: its sampler starts where the trainer is, and
    what it saves is only what that order depends on.
    """

    sampler: StepSampler

    def state_dict(self) -> Dict[str, int]:
        """Goes into a checkpoint."""
        order = self.sampler.order
        return {
            "images": order.length,
            "seed": order.seed,
            "images_per_step": self.sampler.images_per_step,
        }

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Compare with a checkpoint's.

        Raises:
            ValueError: this loader's order is another.
        """
        for key, now in self.state_dict().items():
            if state.get(key, now) != now:
                raise ValueError(
                    f"the checkpoint was trained with {key.replace('_', ' ')} {state[key]}, now it"
                    f" is {now}: the order of the images would be another"
                )


class DetectionData(lightning.LightningDataModule):
    """Batches (`data.collate.Batch`) of a training and an evaluation dataset.

    With `steps`, one epoch of Lightning's is the whole run, and a resumed run goes on at the
    trainer's `global_step`: the order is a function of seed and step. Without, an epoch is one pass
    over the pictures, and the trainer counts them.

    Args:
        train: to train on.
        val: to evaluate on; None: nothing is (and `limit_val_batches=0` keeps Lightning from
            remarking on it).
        fit: the network's input.
        augmentation: what training changes. Its `mosaic_close` is a share of `steps`.
        seed: of order, augmentation and keys.
        micro_batch_size: pictures per training batch.
        images_per_step: pictures per update of the weights.
        steps: updates of the whole run; None: a trainer's own epochs.
        device_iterations: updates per `global_step`.
        max_boxes: boxes per picture that a batch has room for.
        workers: processes per loader; 0 reads in this one.
        val_batch_size: pictures per evaluation batch.
        first: a change before all others; see `data.albumentations`.
        skip_bad: replace pictures that can no longer be read.
        blank: read none to train on: the batches have their form only, for a process that needs
            no more.
        share: (k, n): evaluate on every n-th picture from the k-th on, as one of n processes.

    Raises:
        ValueError: `images_per_step` is no multiple of `micro_batch_size`; mosaics are to end
            before the run, and there are no `steps`.
    """

    def __init__(
        self,
        train: Dataset,
        val: Optional[Dataset],
        *,
        fit: Fit,
        augmentation: Augmentation,
        seed: int,
        micro_batch_size: int = 1,
        images_per_step: int = 1,
        steps: Optional[int] = None,
        device_iterations: int = 1,
        max_boxes: int = 100,
        workers: int = 0,
        val_batch_size: int = 1,
        first: Optional[Callable[[Sample, int], Sample]] = None,
        skip_bad: bool = False,
        blank: bool = False,
        share: Tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        if images_per_step % micro_batch_size:
            raise ValueError(
                f"images per step ({images_per_step}) must be a multiple of micro_batch_size"
                f" ({micro_batch_size})"
            )
        self.order = Order(len(train), seed)
        self.training = TrainingImages(
            train,
            fit,
            augmentation,
            seed,
            first=first,
            skip_bad=skip_bad,
            open_for=pictures_with_mosaics(augmentation, steps, images_per_step),
        )
        self.blank = blank
        self.evaluation = None if val is None else EvaluationImages(val, fit, seed)
        self.share = share
        self.micro_batch_size = micro_batch_size
        self.images_per_step = images_per_step
        self.steps = steps
        self.device_iterations = device_iterations
        self.max_boxes = max_boxes
        self.workers = workers
        self.val_batch_size = val_batch_size
        self.replaced: List[str] = []
        """Pictures that could not be read while training, in the order of their first failure."""
        self.overflow = 0
        """Boxes that training had no room for."""

    def train_dataloader(self) -> DataLoader[Placed]:
        """Training batches, from where the trainer is."""
        settings: Dict[str, Any] = {
            "batch_size": self.micro_batch_size,
            "drop_last": True,
            "num_workers": 0 if self.blank else self.workers,
            "worker_init_fn": leave_signals,
            "collate_fn": collator(self.max_boxes),
        }
        # both have a length and items, as DataLoader asks
        images: Any = BlankImages(self.training) if self.blank else self.training
        if self.steps is None:
            return DataLoader(images, sampler=EpochSampler(self.order), **settings)
        done = 0 if self.trainer is None else self.trainer.global_step * self.device_iterations
        sampler = StepSampler(self.order, self.images_per_step, self.steps, start=done)
        return OrderedLoader(images, sampler=sampler, **settings)

    def val_dataloader(self) -> Any:
        """Every evaluation picture once, in the dataset's order, or this process's share of them;
        [] where there is none.
        """
        if self.evaluation is None:
            return []
        return DataLoader(
            self.evaluation,  # type: ignore[arg-type]  # as above
            sampler=shared_out(len(self.evaluation), self.share),
            batch_size=self.val_batch_size,
            num_workers=self.workers,
            worker_init_fn=leave_signals,
            collate_fn=collator(self.max_boxes),
        )

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count what a training batch lacks; Lightning calls this in the main process."""
        if self.trainer is not None and self.trainer.training:
            self.count(batch)
        return batch

    def count(self, batch: Batch) -> None:
        """Add a batch to `replaced` and `overflow`; the first failure of a picture is logged."""
        self.overflow += batch.overflow
        for placement in batch.placements:
            bad = placement.instead_of
            if bad and bad not in self.replaced:
                self.replaced.append(bad)
                logger.warning("cannot read %s any more: %s in its place", bad, placement.name)


def pictures_with_mosaics(
    augmentation: Augmentation, steps: Optional[int], images_per_step: int
) -> Optional[int]:
    """How many pictures of a run come before its last steps, which have no mosaics; None: all.

    Raises:
        ValueError: it is not known which steps those are.
    """
    share = augmentation.mosaic_close
    if not augmentation.mosaic or not share:
        return None
    if steps is None:
        raise ValueError(
            f"augment.mosaic_close={share:g} is a share of a run's steps, and a trainer's own"
            " epochs have no known end: give steps=, or mosaic_close=0"
        )
    return (steps - round(steps * share)) * images_per_step
