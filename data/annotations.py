"""All pictures and boxes of a dataset as a few flat arrays, and the samples that they name.

I pictures, N boxes of all of them, C classes. Flat arrays instead of lists of dicts: worker
processes share them, and a million boxes cost 50 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Protocol, Sequence, Tuple

import numpy as np
import torch
from numpy.typing import NDArray

from data.reading import UnreadableImageError, read_image
from data.sample import Sample

__all__ = ["DIFFICULT", "AnnotatedImages", "Annotations", "BoxList", "Dataset", "pack"]

DIFFICULT = ("use", "ignore", "leave_out")
"""What training does with difficult boxes: as any other (Detectron2), regions to ignore, or not at
all (py-faster-rcnn, Graphcore).
"""


@dataclass(frozen=True)
class Annotations:
    """A dataset without its pixels; boxes of picture i are rows `starts[i]` to `starts[i + 1]`."""

    class_names: Tuple[str, ...]
    """C names, by label."""
    names: NDArray[np.str_]
    """(I,) paths below the dataset's root, parts joined by '/'; unique."""
    image_ids: NDArray[np.int64]
    """(I,) the dataset's own numbers; unique."""
    sizes: NDArray[np.int32]
    """(I, 2) height and width, pixels; as annotated."""
    starts: NDArray[np.int64]
    """(I + 1,) first row of each picture, and N."""
    boxes: NDArray[np.float64]
    """(N, 4) xyxy, continuous pixels of the picture; as annotated, may reach beyond it."""
    labels: NDArray[np.int32]
    """(N,) 0..C-1, also of difficult boxes and crowds."""
    difficult: NDArray[np.bool_]
    """(N,) VOC's `difficult`: neither hit nor miss in evaluation."""
    crowd: NDArray[np.bool_]
    """(N,) COCO's `iscrowd`: a region of many objects; always ignored in training."""
    areas: NDArray[np.float64]
    """(N,) what COCO's small, medium and large go by: the mask's area, or the box's."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def images(self) -> NDArray[np.int64]:
        """(N,) place of each box's picture, 0..I-1."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def rows(self, index: int) -> slice:
        """The rows of one picture's boxes."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def counts(self) -> Dict[str, int]:
        """Boxes by class name, crowds left out."""
        labels = self.labels[~self.crowd]
        numbers = np.bincount(labels, minlength=len(self.class_names))
        return {name: int(number) for name, number in zip(self.class_names, numbers)}

    def overflow(self, max_boxes: int) -> Tuple[int, int]:
        """How many pictures have more than `max_boxes` boxes, and how many boxes are over."""
        over = np.maximum(np.diff(self.starts) - max_boxes, 0)
        return int((over > 0).sum()), int(over.sum())

    def with_ids(self, image_ids: Sequence[int]) -> Annotations:
        """The same with other image ids."""
        return replace(self, image_ids=np.array(image_ids, dtype=np.int64))

    def take(self, indices: Sequence[int]) -> Annotations:
        """Some of the pictures, in the order given."""
        chosen = np.asarray(indices, dtype=np.int64)
        pieces = [np.arange(*self.rows(int(index)).indices(len(self.boxes))) for index in chosen]
        rows = np.concatenate([*pieces, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        taken = self.with_rows(rows, np.array([len(piece) for piece in pieces], dtype=np.int64))
        return replace(
            taken,
            names=self.names[chosen],
            image_ids=self.image_ids[chosen],
            sizes=self.sizes[chosen],
        )

    def without_difficult(self) -> Annotations:
        """The same pictures; their difficult boxes left out."""
        rows = np.flatnonzero(~self.difficult)
        return self.with_rows(rows, np.bincount(self.images[rows], minlength=len(self)))

    def with_rows(self, rows: NDArray[np.int64], per_image: NDArray[np.int64]) -> Annotations:
        """Only some rows, `per_image` of them for each picture."""
        return replace(
            self,
            starts=np.concatenate([[0], np.cumsum(per_image)]).astype(np.int64),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            difficult=self.difficult[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
        )


@dataclass
class BoxList:
    """One picture's entry while a dataset is read; `pack` makes arrays of many."""

    name: str
    """Path below the root."""
    image_id: int
    """Its number."""
    size: Tuple[int, int]
    """(height, width), pixels."""
    boxes: List[Tuple[float, float, float, float]]
    """xyxy, continuous pixels."""
    labels: List[int]
    """One per box."""
    difficult: List[bool]
    """One per box."""
    crowd: List[bool]
    """One per box."""
    areas: List[float]
    """One per box, or none at all: the boxes' own."""


def pack(images: Sequence[BoxList], class_names: Sequence[str]) -> Annotations:
    """Flat arrays from entries, in their order."""
    count = sum(len(image.boxes) for image in images)
    boxes = np.array([box for image in images for box in image.boxes], dtype=np.float64)
    boxes = boxes.reshape(count, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    starts = np.cumsum([0] + [len(image.boxes) for image in images])
    for image, start in zip(images, starts):
        if image.areas:
            areas[start : start + len(image.areas)] = image.areas
    return Annotations(
        tuple(class_names),
        np.array([image.name for image in images], dtype=np.str_),
        np.array([image.image_id for image in images], dtype=np.int64),
        np.array([image.size for image in images], dtype=np.int32).reshape(len(images), 2),
        starts.astype(np.int64),
        boxes,
        np.array([label for image in images for label in image.labels], dtype=np.int32),
        np.array([flag for image in images for flag in image.difficult], dtype=np.bool_),
        np.array([flag for image in images for flag in image.crowd], dtype=np.bool_),
        areas,
    )


class Dataset(Protocol):
    """Pictures with boxes: what training and evaluation need of a dataset."""

    @property
    def annotations(self) -> Annotations:
        """All of it; evaluation judges by this."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class AnnotatedImages:
    """Pictures on disk with their boxes, clipped to them, read when asked for.

    `dataset[i]` raises `data.reading.UnreadableImageError`, with the path, for a file that cannot
    be decoded.

    Args:
        root: folder that the names are below.
        annotations: what is in the pictures.
        difficult: one of `DIFFICULT`; what samples do with difficult boxes (`annotations` keeps
            them).
        labels: what samples call each label of `annotations`; None: the same.

    Raises:
        ValueError: unknown `difficult`.
    """

    def __init__(
        self,
        root: Path,
        annotations: Annotations,
        difficult: str = "use",
        labels: Optional[Sequence[int]] = None,
    ) -> None:
        if difficult not in DIFFICULT:
            raise ValueError(f"difficult must be one of {', '.join(DIFFICULT)}, got '{difficult}'")
        self.root = root
        self.annotations = annotations
        self.difficult = difficult
        self.labels = None if labels is None else np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.annotations)

    def path(self, index: int) -> Path:
        """The picture's file."""
        return self.root / str(self.annotations.names[index])

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        table, rows = self.annotations, self.annotations.rows(index)
        labels = table.labels[rows].astype(np.int64)
        if self.labels is not None:
            labels = self.labels[labels]
        ignored = table.crowd[rows].copy()
        kept = np.ones(len(labels), dtype=np.bool_)
        if self.difficult == "ignore":
            ignored |= table.difficult[rows]
        elif self.difficult == "leave_out":
            kept = ~table.difficult[rows]
        labels[ignored] = -1
        try:
            image = read_image(self.path(index))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{self.path(index)}: {error}") from None
        height, width = image.shape[1:]
        boxes = np.clip(table.boxes[rows], 0, [width, height, width, height]).astype(np.float32)
        # Nothing is left of a box where the annotated size was wrong: `data.probing` counts these.
        kept &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Sample(
            image,
            str(table.names[index]),
            int(table.image_ids[index]),
            torch.from_numpy(boxes[kept]),
            torch.from_numpy(labels[kept]),
        )
