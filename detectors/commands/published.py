"""Published weights, with one line on the screen while they arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from detectors.experiment.console import Progress
from detectors.weights import fetch

__all__ = ["fetch_published"]

MEGABYTE = 1 << 20


def fetch_published(name: str, *, quiet: bool, otherwise: str) -> Path:
    """The published checkpoint, from the cache or the network.

    Args:
        name: as `detectors.weights.fetch` takes it.
        quiet: show no line.
        otherwise: ends the message "or give a file of yours with".

    Raises:
        RuntimeError: it cannot be downloaded; says how to do without the network.
    """
    with Progress(0, quiet=quiet, unit="MB") as progress:

        def arrived(done: int, total: Optional[int]) -> None:
            progress.show(done // MEGABYTE, (total or 0) // MEGABYTE)

        try:
            return fetch(name, progress=arrived)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n  or give a file of yours with {otherwise}") from None
