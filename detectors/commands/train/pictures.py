"""The settings of `image` and `augment` as what `data` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, Tuple

from data.albumentations import load_pipeline
from data.augmentation import Augmentation
from data.colours import ColourJitter
from data.fitting import Fit
from data.policies import POLICIES
from data.sample import Sample
from data.transforms import MEAN_COLOUR
from detectors.commands.train.datasets import Datasets
from detectors.experiment.processes import Processes
from detectors.experiment.ranks import Ranks
from detectors.experiment.recipe import Recipe, image_size

if TYPE_CHECKING:  # an evaluation needs `fit_of` and no Lightning
    from data.datamodule import DetectionData

Colour = Tuple[int, int, int]

__all__ = ["augmentation_of", "detection_data", "fit_of"]


def fit_of(recipe: Recipe, pad: Colour = MEAN_COLOUR) -> Fit:
    """How pictures come into the network's input; `pad`, the colour beside them, is the weights'
    (`Preprocess.pad`).
    """
    image = recipe.image
    return Fit(image_size(recipe), image.fit, tuple(image.short_edges), image.long_edge, pad=pad)


def augmentation_of(recipe: Recipe) -> Augmentation:
    """What training changes about them."""
    augment = recipe.augment
    if augment.library == "none":
        return Augmentation()
    low, high = augment.scale
    colours = ColourJitter(
        augment.colour_probability,
        augment.brightness,
        (augment.contrast[0], augment.contrast[1]),
        (augment.saturation[0], augment.saturation[1]),
    )
    return Augmentation(
        augment.flip,
        (low, high),
        augment.scale_probability,
        augment.place,
        colours,
        augment.mosaic,
        augment.mosaic_close,
    )


def first_change(recipe: Recipe) -> Optional[Callable[[Sample, int], Sample]]:
    """An albumentations pipeline, where one is asked for.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: the file or the package is missing or unfit.
    """
    if recipe.augment.library != "albumentations":
        return None
    name = recipe.augment.compose
    if not name:
        raise ValueError(
            f"augment=albumentations needs augment.compose={'|'.join(POLICIES)}, or"
            " augment.compose=FILE, what A.save(pipeline, FILE) wrote"
        )
    if name in POLICIES:
        return POLICIES[name]()
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"augment.compose {name}: no such file (A.save writes one), and none of"
            f" {', '.join(POLICIES)}"
        )
    return load_pipeline(Path(name))


def detection_data(
    recipe: Recipe, datasets: Datasets, pad: Colour, ranks: Optional[Ranks] = None
) -> DetectionData:
    """The loaders of a run, or of one of its ranks: of a later stage, without the pictures."""
    from data.datamodule import DetectionData

    ranks = ranks or Ranks(Processes())
    return DetectionData(
        datasets.train,
        datasets.val,
        fit=fit_of(recipe, pad),
        augmentation=augmentation_of(recipe),
        seed=recipe.seed,
        micro_batch_size=recipe.micro_batch_size,
        images_per_step=recipe.images_per_step,
        steps=recipe.trainer.max_steps,
        device_iterations=recipe.device_iterations,
        max_boxes=recipe.data.max_boxes,
        workers=recipe.data.workers,
        val_batch_size=recipe.evaluate.micro_batch_size,
        first=first_change(recipe),
        skip_bad=recipe.data.skip_bad,
        blank=not ranks.sees_pictures,
        share=(ranks.processes.rank, ranks.processes.size),
    )
