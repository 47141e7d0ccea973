"""Two pipelines of albumentations' transforms that recipes call by name.

gridmask hides a grid of squares (arXiv:2001.04086). autoaugment has the form of the policy for
detection of arXiv:1906.11172: one of five pairs is drawn for each picture, a movement that boxes
follow and a change of colours. Pairs, probabilities and strengths are our own choice, found by no
search; what that policy does inside of boxes only, and its Cutout, have no counterpart here.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Mapping

import numpy as np
import torch

from data.albumentations import AlbumentationsTransform, library
from data.sample import Sample
from data.transforms import MEAN_COLOUR

__all__ = ["POLICIES", "HidingTransform", "auto_augment", "grid_mask"]

FILLS = ("fill", "fill_value", "cval")  # what versions 1.4 to 2.0 call the colour of what is empty
FILLS_OF_MASK = ("fill_mask", "mask_fill_value", "cval_mask")  # the same of masks
UNITS = (2, 3, 4, 5)  # of the grid, along a side of the picture
HIDDEN = 0.5  # of a unit's sides: a quarter of the picture
MOVED, COLOURED = 0.6, 0.8  # probabilities within a pair
SHIFT = 0.15  # of a side, at most, to either side
TURN = 8.0  # degrees, at most, to either side


class HidingTransform(AlbumentationsTransform):
    """A pipeline that hides parts of pictures and moves nothing: boxes stay as they are, and those
    of which nothing is to be seen are left out.

    The library's own rule for boxes under holes is not asked: 2.0 narrows them, to whole pixels,
    and 1.4 keeps them all.
    """

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Change one picture; see `AlbumentationsTransform`."""
        content = {
            "image": sample.image.permute(1, 2, 0).contiguous().numpy(),
            "mask": np.ones(sample.original_size, dtype=np.uint8),
            "bboxes": np.zeros((0, 5)),
        }
        changed = self.run(content, seed)
        begin, end = sample.boxes[:, :2].floor().int(), sample.boxes[:, 2:].ceil().int()
        corners = torch.cat([begin, end], dim=1).clamp(min=0).tolist()
        seen = torch.tensor(
            [bool(changed["mask"][y1:y2, x1:x2].any()) for x1, y1, x2, y2 in corners],
            dtype=torch.bool,
        )
        image = torch.from_numpy(np.ascontiguousarray(changed["image"])).permute(2, 0, 1)
        return Sample(image, sample.name, sample.image_id, sample.boxes[seen], sample.labels[seen])


def grid_mask() -> AlbumentationsTransform:
    """Six of ten pictures lose a square in each unit of a grid, which is not turned as the paper's.

    Raises:
        RuntimeError: albumentations is not installed.
    """
    package = library()
    grids = [
        filled(package.GridDropout, ratio=HIDDEN, holes_number_xy=(units, units), p=1.0)
        for units in UNITS
    ]
    return HidingTransform(package.Compose([package.OneOf(grids, p=0.6)]))


def auto_augment() -> AlbumentationsTransform:
    """One of five pairs; turned boxes are those around what was turned.

    Raises:
        RuntimeError: albumentations is not installed.
    """
    package = library()

    def moved(**how: Any) -> Any:
        return filled(package.Affine, p=MOVED, **how)

    pairs = [
        (
            moved(translate_percent={"x": (-SHIFT, SHIFT), "y": (0.0, 0.0)}),
            package.Equalize(p=COLOURED),
        ),
        (
            moved(translate_percent={"x": (0.0, 0.0), "y": (-SHIFT, SHIFT)}),
            package.RandomBrightnessContrast(p=COLOURED),
        ),
        (
            moved(shear={"x": (-TURN, TURN), "y": (0.0, 0.0)}),
            package.Sharpen(p=COLOURED),
        ),
        (
            moved(shear={"x": (0.0, 0.0), "y": (-TURN, TURN)}),
            package.Posterize(num_bits=(4, 6), p=COLOURED),
        ),
        (
            moved(rotate=(-TURN, TURN)),
            package.HueSaturationValue(p=COLOURED),
        ),
    ]
    one = package.OneOf([package.Sequential(list(pair), p=1.0) for pair in pairs], p=1.0)
    return AlbumentationsTransform(package.Compose([one]))


def filled(transform: Callable[..., Any], **settings: Any) -> Any:
    """A transform that fills what is empty as pictures are padded, by any version's name for it."""
    known = inspect.signature(transform).parameters
    colours: Dict[str, Any] = {name: MEAN_COLOUR for name in FILLS if name in known}
    colours.update({name: 0 for name in FILLS_OF_MASK if name in known})
    return transform(**colours, **settings)


POLICIES: Mapping[str, Callable[[], AlbumentationsTransform]] = {
    "autoaugment": auto_augment,
    "gridmask": grid_mask,
}
"""`augment.compose` -> the pipeline."""
