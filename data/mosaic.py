"""Four pictures around a point of the canvas: more surroundings, more sizes, more boxes at a time.

The idea is YOLOv4's (arXiv:2004.10934, sec. 3.3). Each picture has a quadrant, and is as large as
it would be alone, with a factor, mirroring and colours of its own; one that is smaller touches the
point, of one that is larger a part is drawn.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import torch

from data.augmentation import Augmentation, View, draw_view
from data.collate import Placed, Placement
from data.fitting import Fit, put
from data.randomness import generator, key_of
from data.sample import Sample

__all__ = ["make_mosaic", "partners"]

CHANCE, CENTRE, PICTURE = 1, 2, 3  # what is drawn; each has numbers of its own
MARGIN = 0.25  # share of a side that the point keeps from the border: no quadrant is a mere strip


def partners(
    probability: float, length: int, *, seed: int, epoch: int, index: int
) -> Tuple[int, ...]:
    """The three pictures that come beside one, 0..length-1, or none.

    Args:
        probability: of a mosaic.
        length: pictures to draw from; one may come twice.
        seed, epoch, index: all that the result depends on besides.
    """
    random = generator(seed, epoch, index, CHANCE)
    if random.random() >= probability:
        return ()
    return tuple(int(number) for number in random.integers(0, length, 3))


def make_mosaic(
    samples: Sequence[Sample],
    fit: Fit,
    settings: Augmentation,
    *,
    seed: int,
    epoch: int,
    index: int,
) -> Placed:
    """One picture of four.

    Args:
        samples: four, on disk: top left, top right, bottom left, bottom right.
        fit: the network's input.
        settings: how far each is changed; `place` has no meaning here.
        seed, epoch, index: all that the result depends on besides.

    Returns:
        Boxes, regions to ignore too, are clipped to the quadrant of their picture. No way leads
        back to pictures on disk: the placement is that of a picture as large as the canvas, which
        lies on it as it is; its name has all four.
    """
    height, width = fit.size
    across, down = (
        round(side * (MARGIN + (1 - 2 * MARGIN) * float(share)))
        for side, share in zip((width, height), generator(seed, epoch, index, CENTRE).random(2))
    )
    canvas = torch.zeros(3, height, width, dtype=torch.uint8)
    boxes, labels, cut = [], [], 0
    for number, sample in enumerate(samples):
        left, right = ((0, across), (across, width))[number % 2]
        top, bottom = ((0, down), (down, height))[number // 2]
        view = draw_view(sample, fit, settings, generator(seed, epoch, index, PICTURE, number))
        quadrant = Fit((bottom - top, right - left), resample=fit.resample, pad=fit.pad)
        offset = offset_in(quadrant.size, view, at_end=(left == 0, top == 0))
        part = put(view.sample, quadrant, view.target, offset=offset, flip=view.flip)
        canvas[:, top:bottom, left:right] = part.image
        moved = part.boxes + torch.tensor([left, top, left, top], dtype=torch.float32)
        whole = (moved[:, 2:] > moved[:, :2]).all(dim=1)  # see `place_boxes`
        boxes.append(moved[whole])
        labels.append(part.labels[whole])
        cut += part.placement.cut + int((~whole).sum())
    names = " + ".join(sample.name for sample in samples)
    return Placed(
        canvas,
        torch.cat(boxes),
        torch.cat(labels),
        key_of(seed, epoch, index),
        Placement(names, -1, fit.size, 1.0, cut=cut),
    )


def offset_in(size: Tuple[int, int], view: View, *, at_end: Tuple[bool, bool]) -> Tuple[int, int]:
    """(x, y) of a picture's top left corner in its quadrant.

    Args:
        size: (height, width) of the quadrant.
        view: of the picture.
        at_end: (x, y), whether the point of the mosaic is at the quadrant's right, at its bottom.
    """
    room = (size[1] - view.target.size[1], size[0] - view.target.size[0])
    x, y = (
        round(share * free) if free < 0 else free * end
        for share, free, end in zip(view.shares, room, at_end)
    )
    return x, y
