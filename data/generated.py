"""Pictures made on the spot from a seed: coloured shapes on noise, with their boxes. No download,
and something to see.

Every pixel of the ground is a random uint8, so no layer of a network meets constant input.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from data.annotations import Annotations, BoxList, pack
from data.sample import Sample

__all__ = ["CLASSES", "GeneratedImages", "write_pictures"]

CLASSES = ("circle", "square", "triangle")
MAX_SHAPES = 6


class GeneratedImages:
    """`count` pictures; picture i depends on `(seed, i, size, noise)` alone.

    Two seeds are two datasets: one to train on, one to evaluate on.

    Args:
        count: how many.
        size: (height, width), pixels.
        seed: of everything random.
        noise: how many grey values the ground takes, 2..256: the fewer, the easier to learn.
    """

    def __init__(
        self, count: int, size: Tuple[int, int] = (480, 640), seed: int = 0, noise: int = 256
    ) -> None:
        if count < 1 or min(size) < 16:
            raise ValueError(f"need count >= 1 and size >= 16 pixels, got {count} and {size}")
        if not 2 <= noise <= 256:
            raise ValueError(f"noise must be 2..256 grey values, got {noise}")
        self.count, self.size, self.seed, self.noise = count, size, seed, noise
        self.names = [f"generated_{index:06d}.png" for index in range(count)]
        self.packed: Optional[Annotations] = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"picture {index} of {self.count}")
        random = np.random.default_rng((self.seed, index))
        height, width = self.size
        ground = random.integers(0, self.noise, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(ground)
        canvas = ImageDraw.Draw(picture)
        boxes: List[Tuple[int, int, int, int]] = []
        labels: List[int] = []
        for _ in range(int(random.integers(1, MAX_SHAPES + 1))):
            side = int(random.integers(min(self.size) // 8, min(self.size) // 3))
            x1, y1 = int(random.integers(width - side)), int(random.integers(height - side))
            if any(overlap((x1, y1, x1 + side, y1 + side), box) for box in boxes):
                continue  # a covered shape would be a label of nothing
            label = int(random.integers(len(CLASSES)))
            colour = tuple(int(value) for value in random.integers(64, 256, 3))
            paint(canvas, label, (x1, y1, x1 + side, y1 + side), colour)
            boxes.append((x1, y1, x1 + side, y1 + side))
            labels.append(label)
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        corners = torch.tensor(boxes, dtype=torch.float32)
        return Sample(image, self.names[index], index + 1, corners, torch.tensor(labels))

    @property
    def annotations(self) -> Annotations:
        """All boxes; draws every picture once."""
        if self.packed is None:
            self.packed = pack([box_list(self[index]) for index in range(self.count)], CLASSES)
        return self.packed


def box_list(sample: Sample) -> BoxList:
    """A sample's entry of the annotations."""
    corners = [(x1, y1, x2, y2) for x1, y1, x2, y2 in sample.boxes.tolist()]
    labels = [int(label) for label in sample.labels]
    none = [False] * len(labels)
    size = sample.original_size
    return BoxList(sample.name, sample.image_id, size, corners, labels, none, none, [])


def overlap(one: Tuple[int, int, int, int], two: Tuple[int, int, int, int]) -> bool:
    """Whether two xyxy boxes share a pixel."""
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def paint(
    canvas: ImageDraw.ImageDraw,
    label: int,
    box: Tuple[int, int, int, int],
    colour: Tuple[int, ...],
) -> None:
    """Fill the shape `CLASSES[label]` so that it covers xyxy `box` exactly."""
    x1, y1, x2, y2 = box[0], box[1], box[2] - 1, box[3] - 1  # Pillow's corners are inclusive
    if CLASSES[label] == "circle":
        canvas.ellipse((x1, y1, x2, y2), fill=colour)
    elif CLASSES[label] == "square":
        canvas.rectangle((x1, y1, x2, y2), fill=colour)
    else:
        canvas.polygon(((x1, y2), (x2, y2), ((x1 + x2) / 2, y1)), fill=colour)


def write_pictures(
    folder: Path,
    count: int,
    size: Tuple[int, int] = (480, 640),
    seed: int = 0,
    noise: int = 256,
) -> None:
    """Write generated pictures as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    images = GeneratedImages(count, size, seed, noise)
    for index in range(count):
        sample = images[index]
        Image.fromarray(sample.image.permute(1, 2, 0).contiguous().numpy()).save(
            folder / sample.name
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m data.generated", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height width")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=int, default=256, help="grey values of the ground")
    asked = parser.parse_args()
    write_pictures(asked.folder, asked.count, tuple(asked.size), asked.seed, asked.noise)
