"""Where the time of a run goes: the parts of each image's way, and their percentiles."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Dict, Iterator, List, Sequence

from detectors.experiment.console import table

__all__ = ["PARTS", "Timings", "percentile"]

PARTS = ("read", "preprocess", "model", "postprocess")
"""Decode the file; letterbox; the executor, from uint8 batch to its outputs; the rest on the host.
"""


class Timings:
    """Seconds per image of each part, and seconds per call of the model.

    A call's time is divided by the images in it, so that parts measured per batch and per image add
    up.
    """

    def __init__(self) -> None:
        self.per_image: Dict[str, List[float]] = {part: [] for part in PARTS}
        self.per_batch: List[float] = []

    @contextmanager
    def measure(self, part: str, images: int = 1) -> Iterator[None]:
        """Time a block that does `part` for some images; wall clock, monotonic."""
        start = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - start, images)

    def add(self, part: str, seconds: float, images: int = 1) -> None:
        """Note a time that was measured elsewhere, in another thread for instance."""
        self.per_image[part] += [seconds / images] * images
        if part == "model":
            self.per_batch.append(seconds)

    def forget(self) -> None:
        """Drop everything so far: what came was warming up."""
        self.per_batch.clear()
        for seconds in self.per_image.values():
            seconds.clear()

    @staticmethod
    def joined(parts: Sequence[Timings]) -> Timings:
        """Those of several processes, one after the other."""
        whole = Timings()
        for part in parts:
            whole.per_batch += part.per_batch
            for name, seconds in part.per_image.items():
                whole.per_image[name] += seconds
        return whole

    def render(self) -> str:
        """The table of milliseconds per image."""
        rows = [[part, *summary(self.per_image[part])] for part in PARTS if self.per_image[part]]
        return table(["ms per image", "mean", "p50", "p90", "p99"], rows)


def summary(seconds: Sequence[float]) -> List[str]:
    """Mean, p50, p90, p99 in milliseconds."""
    values = [sum(seconds) / len(seconds), *(percentile(seconds, q) for q in (50, 90, 99))]
    return [f"{1000 * value:.2f}" for value in values]


def percentile(values: Sequence[float], q: float) -> float:
    """The value that q percent are not over, interpolated between neighbours (numpy's default).

    Args:
        values: at least one.
        q: 0..100.
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
