"""A dataset's boxes as they lie in the network's input, without reading a picture.

G boxes.
"""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from data.annotations import Annotations
from data.fitting import Fit, place_boxes

__all__ = ["fitted_boxes"]


def fitted_boxes(
    annotations: Annotations,
    fit: Fit,
    *,
    difficult: str = "use",
    limit: Optional[int] = None,
    seed: int = 0,
) -> Tuple[Tensor, Tensor]:
    """What training matches with anchors, but for augmentation: scaled by the fit and clipped.

    Args:
        annotations: of the pictures.
        fit: where they are put; of several short edges the last counts.
        difficult: as `AnnotatedImages` takes it; anything but "use" leaves difficult boxes out.
        limit: of boxes; where there are more, as many are drawn. None = all.
        seed: of the draw.

    Returns:
        (G, 4) float32, xyxy pixels of the network's input, and (G,) int64 labels; neither crowds
        nor boxes without area.
    """
    kept = ~annotations.crowd
    if difficult != "use":
        kept = kept & ~annotations.difficult
    rows = np.flatnonzero(kept)
    if limit is not None and len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    images = annotations.images[rows]
    parts = [torch.zeros(0, 4)]
    for image, first, count in zip(*np.unique(images, return_index=True, return_counts=True)):
        height, width = (int(side) for side in annotations.sizes[image])
        boxes = annotations.boxes[rows[first : first + count]]
        boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        target = fit.target((height, width))
        parts.append(
            place_boxes(
                torch.from_numpy(boxes), (height, width), fit.size, target, (0, 0), flip=False
            )[0]
        )
    placed = torch.cat(parts)
    labels = torch.from_numpy(annotations.labels[rows].astype(np.int64))
    whole = (placed[:, 2:] > placed[:, :2]).all(dim=1)
    return placed[whole], labels[whole]
