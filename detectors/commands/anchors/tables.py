"""Coverage as a table of text: anchors side by side, boxes by class and by size."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
from torch import Tensor

from detectors.anchor_coverage import Coverage
from detectors.boxes import box_area
from detectors.commands.train.data_summary import many
from detectors.experiment.console import table

__all__ = ["coverage_table"]

FINEST = 4  # bands of size begin at 2**4 px: what is smaller is in the first


def coverage_table(
    found: Sequence[Tuple[str, Coverage]], boxes: Tensor, labels: Tensor, names: Sequence[str]
) -> List[str]:
    """All boxes, those of each class, those of each size; what has no box has no row.

    Args:
        found: of the boxes, for one set of anchors or several, with their names.
        boxes: (G, 4) of the network's input.
        labels: (G,).
        names: of the classes, by label.
    """
    groups = [("all", torch.ones_like(labels, dtype=torch.bool))]
    groups += [(name, labels == label) for label, name in enumerate(names)]
    groups += bands(boxes)
    head, rows = ["boxes", "number"], [[name, many(int(group.sum()))] for name, group in groups]
    for anchors, coverage in found:
        named = f"{anchors}: " if anchors else ""
        head += [f"{named}no anchor", "smaller", "best IoU"]
        for row, (_, group) in zip(rows, groups):
            part = coverage.of(group)
            row += [percent(part.share_unreached), percent(part.share_smaller)]
            row.append(f"{part.mean_best:.3f}")
    filled = [row for row, (_, group) in zip(rows, groups) if bool(group.any())]
    return table(head, filled).splitlines()


def percent(share: float) -> str:
    """`7.2 %`"""
    return f"{100 * share:.1f} %"


def bands(boxes: Tensor) -> List[Tuple[str, Tensor]]:
    """Boxes by the root of their area, in doubling bands: name and (G,) bool."""
    band = box_area(boxes).sqrt().log2().floor().clamp(min=FINEST - 1).int()
    named = []
    for step in sorted(set(band.tolist())):
        low, high = 2**step, 2 ** (step + 1)
        name = f"under {high} px" if step < FINEST else f"{low} to {high} px"
        named.append((name, band == step))
    return named
