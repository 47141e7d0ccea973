"""One batch through the runner, timed part by part, to detections in pixels on disk."""

from __future__ import annotations

from typing import List, Optional, Sequence

from data.collate import to_original
from data.formats import ImageDetections
from detectors.commands.infer.batches import ImageBatch, Prepared
from detectors.commands.infer.runner import Row, Runner
from detectors.experiment.timing import Timings

__all__ = ["detect_batch", "image_detections"]


def detect_batch(
    runner: Runner, batch: ImageBatch, timings: Timings, wanted: Optional[Sequence[int]] = None
) -> List[ImageDetections]:
    """Detections of each image of a batch, also those under the threshold.

    Args:
        runner: of the model.
        batch: may be empty.
        timings: what each part took is added to it.
        wanted: labels to keep; None for all.
    """
    count = len(batch.items)
    if not count:
        return []
    for item in batch.items:
        timings.add("read", item.read)
        timings.add("preprocess", item.preprocess)
    with timings.measure("model", count):
        outputs = runner(batch.images)
    with timings.measure("postprocess", count):
        rows = runner.rows(outputs)
        return [image_detections(item, row, wanted) for item, row in zip(batch.items, rows)]


def image_detections(
    item: Prepared, row: Row, wanted: Optional[Sequence[int]] = None
) -> ImageDetections:
    """One image's row of the outputs, in pixels on disk.

    Args:
        item: the image.
        row: its detections. Each score becomes the shortest decimal that is the same float32.
        wanted: labels to keep; None for all.
    """
    boxes, scores, labels = row
    original = to_original(boxes, item.placement).tolist()
    shortest = [float(str(score)) for score in scores.numpy()]
    rows = [
        (label, score, (box[0], box[1], box[2], box[3]))
        for label, score, box in zip(labels.tolist(), shortest, original)
        if wanted is None or label in wanted
    ]
    height, width = item.placement.original_size
    return ImageDetections(
        item.placement.name,
        item.placement.image_id,
        width,
        height,
        tuple(label for label, _, _ in rows),
        tuple(score for _, score, _ in rows),
        tuple(box for _, _, box in rows),
    )
