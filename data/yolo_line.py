"""One line of YOLO's text files: a class number, and shares of the picture's width and height.

`<class> <cx> <cy> <w> <h>` is a box; `<class> <x1> <y1> <x2> <y2> <x3> <y3> ...` an outline, of
which the box around it is taken.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

from data.defects import Box, DefectReport, keep_box

__all__ = ["read_line", "to_pixels"]

ROUNDING = 1e-5  # share of a picture: what five decimals may be off by at a corner


def read_line(line: str, where: str, report: DefectReport) -> Optional[Tuple[int, Box]]:
    """A line's class number and box (cx, cy, w, h in shares); None for an empty one and for one
    that cannot be understood, which is noted.
    """
    fields = line.split()
    if not fields:
        return None
    try:
        number, *values = [float(field) for field in fields]
    except ValueError:
        report.add("bad_line", where, line.strip()[:40])
        return None
    if not all(math.isfinite(value) for value in (number, *values)):
        report.add("bad_number", where, line.strip()[:40])
        return None
    outline = len(values) >= 6 and len(values) % 2 == 0
    if not (len(values) == 4 or outline) or number != int(number) or number < 0:
        wanted = "a class number and 4 values, or 3 points and more"
        report.add("bad_line", where, f"{len(fields)} values, expected {wanted}")
        return None
    if outline:
        xs, ys = values[::2], values[1::2]
        (x1, x2), (y1, y2) = (min(xs), max(xs)), (min(ys), max(ys))
        return int(number), ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    cx, cy, w, h = values
    return int(number), (cx, cy, w, h)


def to_pixels(
    shares: Box, size: Tuple[int, int], where: str, report: DefectReport
) -> Optional[Box]:
    """A box as xyxy, continuous pixels.

    Args:
        shares: (cx, cy, w, h).
        size: (height, width) of the picture; zeros where it cannot be read, which is noted when
            pictures are opened.
        where: file and line.
        report: where defects go.

    Returns:
        None where it cannot be used.
    """
    cx, cy, w, h = shares
    if not min(size):
        return None
    if not (0 <= cx <= 1 and 0 <= cy <= 1 and w <= 1 + ROUNDING and h <= 1 + ROUNDING):
        report.boxes += 1
        report.add("not_shares", where, " ".join(f"{value:g}" for value in shares))
        return None
    height, width = size
    x1, x2 = near_edge(cx - w / 2) * width, near_edge(cx + w / 2) * width
    y1, y2 = near_edge(cy - h / 2) * height, near_edge(cy + h / 2) * height
    return keep_box((x1, y1, x2, y2), size, report, where)


def near_edge(share: float) -> float:
    """0 or 1 where rounding alone has put a corner beyond it."""
    if -ROUNDING <= share < 0:
        return 0.0
    return 1.0 if 1 < share <= 1 + ROUNDING else share
