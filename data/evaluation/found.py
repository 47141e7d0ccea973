"""Detections of a whole dataset as flat arrays.

M detections of all pictures. Boxes are xyxy, continuous pixels of the picture on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Sequence

import numpy as np
from numpy.typing import NDArray

from data.annotations import Annotations

__all__ = ["Found", "checked", "rounded", "table"]


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


def rounded(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes to the thousandth of a pixel, exactly as they come back from a COCO results file.

    Args:
        boxes: (M, 4).
    """
    corners = np.round(boxes[:, :2], 3)
    sides = np.round(boxes[:, 2:] - boxes[:, :2], 3)
    return np.concatenate([corners, corners + sides], axis=1)


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
