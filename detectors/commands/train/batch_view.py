"""`train_batches.jpg`: the first pictures of a run as the model sees them, boxes and all."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from data.collate import collate
from data.contact_sheet import contact_sheet
from data.datamodule import DetectionData
from data.drawing import JPEG_QUALITY
from detectors.commands.train.plan import Plan
from detectors.experiment.atomic import write_whole

__all__ = ["BATCH_VIEW", "write_batch_view"]

BATCH_VIEW = "train_batches.jpg"
MOST = 16  # pictures: they are read once more in training

logger = logging.getLogger(__name__)


def write_batch_view(plan: Plan, data: DetectionData, folder: Path) -> None:
    """Draw the run's first step, or its first 16 pictures, into a new run's folder.

    No run fails for it: what stands in its way is logged, and there is no such file then.

    Args:
        plan: of the run. Of several processes the first draws; a run that goes on has its file.
        data: of this process.
        folder: of the run.
    """
    if plan.earlier is not None or not plan.ranks.processes.first or data.blank:
        return
    try:
        count = min(MOST, plan.recipe.images_per_step)
        items = [data.training[data.order.draw(place)] for place in range(count)]
        names = [name or "" for name in plan.datasets.class_names]  # a slot that no class has
        sheet = contact_sheet(collate(items, plan.recipe.data.max_boxes), names)
        content = io.BytesIO()
        sheet.save(content, "jpeg", quality=JPEG_QUALITY)
        write_whole(folder / BATCH_VIEW, content.getvalue())
    except (OSError, RuntimeError, ValueError) as error:
        logger.warning("no %s: %s", BATCH_VIEW, error)
