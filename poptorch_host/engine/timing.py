"""Ticks of one call and the latencies PopTorch makes of them (seconds of the host's monotonic
clock).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

Latency = Tuple[float, float, float]
"""Least, greatest and mean, seconds."""


@dataclass
class Ticks:
    """When the blocks of one call arrived and left."""

    inputs: int = 1
    """Input tensors."""
    outputs: int = 1
    """Output tensors."""
    input: List[float] = field(default_factory=list)
    """Start of each block's transfer; one entry per micro-batch."""
    input_complete: List[float] = field(default_factory=list)
    output: List[float] = field(default_factory=list)
    """Start of the transfer back; one entry per micro-batch that is returned."""
    output_complete: List[float] = field(default_factory=list)

    def counters(self) -> Dict[str, List[List[float]]]:
        """As `getPerfCounters` returns them: a list of ticks per tensor."""
        return {
            "input": [list(self.input) for _ in range(self.inputs)],
            "input_complete": [list(self.input_complete) for _ in range(self.inputs)],
            "output": [list(self.output) for _ in range(self.outputs)],
            "output_complete": [list(self.output_complete) for _ in range(self.outputs)],
        }

    def latency(self, start: Sequence[float], end: Sequence[float]) -> Latency:
        """From each group's first start to its last end; a group is what one returned block took.

        (0, 0, 0) if nothing was run.
        """
        if not start or not end:
            return 0.0, 0.0, 0.0
        groups = min(len(start), len(end))
        starts = start[:: len(start) // groups][:groups]
        ends = end[len(end) // groups - 1 :: len(end) // groups][:groups]
        spans = [last - first for first, last in zip(starts, ends)]
        return min(spans), max(spans), sum(spans) / len(spans)
