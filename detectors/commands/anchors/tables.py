"""Coverage as tables of text."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from torch import Tensor

from detectors.anchor_coverage import Coverage
from detectors.boxes import box_area
from detectors.commands.train.data_summary import many
from detectors.experiment.console import table

__all__ = ["comparison_table", "coverage_table"]

FINEST = 4  # bands of size begin at 2**4 px: what is smaller is in the first


def coverage_table(
    found: Coverage, boxes: Tensor, labels: Tensor, class_names: Sequence[str]
) -> List[str]:
    """All boxes, those of each class, those of each size: how many no anchor reaches.

    Args:
        found: of the boxes.
        boxes: (G, 4) of the network's input.
        labels: (G,).
        class_names: by label.
    """
    rows = [row("all", found)]
    rows += [row(name, found.of(labels == label)) for label, name in enumerate(class_names)]
    rows += [row(name, found.of(chosen)) for name, chosen in bands(boxes)]
    return table(head("boxes"), [cells for cells in rows if cells is not None]).splitlines()


def comparison_table(found: Sequence[Tuple[str, Coverage]]) -> List[str]:
    """One row for each set of anchors."""
    rows = [row(name, coverage) for name, coverage in found]
    return table(head("anchors"), [cells for cells in rows if cells is not None]).splitlines()


def head(first: str) -> List[str]:
    return [first, "number", "no anchor", "smaller than all", "mean best IoU"]


def row(name: str, found: Coverage) -> Optional[List[str]]:
    """None without a box."""
    if not len(found.best):
        return None
    shares = (found.share_unreached, found.share_smaller)
    percent = [f"{100 * share:.1f} %" for share in shares]
    return [name, many(len(found.best)), *percent, f"{found.mean_best:.3f}"]


def bands(boxes: Tensor) -> List[Tuple[str, Tensor]]:
    """Boxes by the root of their area, in doubling bands: name and (G,) bool."""
    side = box_area(boxes).sqrt()
    band = side.log2().floor().clamp(min=FINEST - 1).int()
    named = []
    for step in sorted(set(band.tolist())):
        low, high = 2**step, 2 ** (step + 1)
        name = f"under {high} px" if step < FINEST else f"{low} to {high} px"
        named.append((name, band == step))
    return named
