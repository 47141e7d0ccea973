"""Detections of a whole dataset as flat arrays, from whatever they were written in.

M detections of all pictures. Boxes are xyxy, continuous pixels of the picture on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations
from data.formats import ImageDetections

__all__ = ["Found", "from_coco_results", "from_images"]


@dataclass(frozen=True)
class Found:
    """M detections in the order they came: it breaks ties between equal scores."""

    images: NDArray[np.int64]
    """(M,) place of the picture in the annotations, 0..I-1."""
    labels: NDArray[np.int64]
    """(M,) index into the annotations' class names."""
    scores: NDArray[np.float64]
    """(M,) as the model gave them."""
    boxes: NDArray[np.float64]
    """(M, 4)."""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[np.bool_]) -> Found:
        """Some of them, in the same order."""
        return Found(
            self.images[chosen], self.labels[chosen], self.scores[chosen], self.boxes[chosen]
        )


def table(rows: Sequence[Sequence[float]]) -> Found:
    """From rows of image, label, score, x1, y1, x2, y2."""
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 7)
    places = values[:, :2].astype(np.int64)
    return Found(places[:, 0], places[:, 1], values[:, 2].copy(), values[:, 3:].copy())


def from_images(images: Iterable[ImageDetections], annotations: Annotations) -> Found:
    """From `data.formats`' readers, or straight from a model; pictures are matched by `image_id`.

    Raises:
        ValueError: a picture that the dataset does not have, one that comes twice, or a label
            beyond its classes.
    """
    places = {int(number): place for place, number in enumerate(annotations.image_ids)}
    rows: List[Sequence[float]] = []
    seen = set()
    for image in images:
        if image.image_id not in places:
            raise ValueError(
                f"detections are of image {image.image_id} ('{image.file}'), which is not among"
                f" the dataset's {len(places)}: are they of another split?"
            )
        if image.image_id in seen:
            raise ValueError(f"image {image.image_id} ('{image.file}') comes twice")
        seen.add(image.image_id)
        for label, score, box in zip(image.labels, image.scores, image.boxes):
            rows.append((places[image.image_id], label, score, *box))
    return checked(table(rows), annotations)


def from_coco_results(
    results: Sequence[Mapping[str, Any]],
    annotations: Annotations,
    category_labels: Mapping[int, int],
) -> Found:
    """From COCO results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...]`.

    Args:
        results: the file's content.
        annotations: of the dataset.
        category_labels: category id -> label.

    Raises:
        ValueError: an image or category that the dataset does not have.
    """
    places = {int(number): place for place, number in enumerate(annotations.image_ids)}
    rows: List[Sequence[float]] = []
    for number, result in enumerate(results):
        image, category = result["image_id"], result["category_id"]
        if image not in places or category not in category_labels:
            unknown = f"image_id {image}" if image not in places else f"category_id {category}"
            raise ValueError(f"result {number}: {unknown} is not in the dataset")
        x, y, width, height = result["bbox"]
        corners = (x, y, x + width, y + height)
        rows.append((places[image], category_labels[category], result["score"], *corners))
    return checked(table(rows), annotations)


def checked(found: Found, annotations: Annotations) -> Found:
    """The same, if all of it can be judged."""
    classes = len(annotations.class_names)
    if len(found) and not (found.labels.min() >= 0 and found.labels.max() < classes):
        raise ValueError(
            f"detections have labels {found.labels.min()} to {found.labels.max()}, but the dataset"
            f" has {classes} classes (labels 0 to {classes - 1})"
        )
    values: Dict[str, NDArray[np.float64]] = {"scores": found.scores, "boxes": found.boxes}
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise ValueError(f"detections have {name} that are not finite numbers")
    return found
