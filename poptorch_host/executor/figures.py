"""The figures an executor reports: ticks and latencies of its latest call, cycles, compile time."""

from __future__ import annotations

import datetime
from typing import Dict, List, Optional

from ..engine.timing import Latency, Ticks
from ..errors import createPoptorchError
from ..options import Options


class Figures:
    """The part of `PoplarExecutor` that only reads what its calls wrote down."""

    _options: Options
    _ticks: Optional[Ticks]
    """Of the latest call."""
    _compile_seconds: Optional[float]

    def compilationTime(self) -> datetime.timedelta:
        """How long compiling took."""
        if self._compile_seconds is None:
            raise createPoptorchError("Please compile the model before obtaining compilation time.")
        if not self._options._show_compilation_progress_bar:
            raise createPoptorchError(
                "Please set showCompilationProgressBar option to obtain compilation time."
            )
        return datetime.timedelta(seconds=self._compile_seconds)

    def getPerfCounters(self) -> Dict[str, List[List[float]]]:
        """Ticks of the latest call, seconds: input, input_complete, output, output_complete.

        Each is a list per tensor with an entry per micro-batch, `[[]]` before the first call.
        """
        return (self._ticks or Ticks()).counters()

    def getLatency(self) -> Latency:
        """(least, greatest, mean) seconds from input to output in the latest call."""
        ticks = self._ticks or Ticks()
        return ticks.latency(ticks.input, ticks.output_complete)

    def getHostIpuLatency(self) -> Latency:
        """(least, greatest, mean) seconds of moving inputs to the device."""
        ticks = self._ticks or Ticks()
        return ticks.latency(ticks.input, ticks.input_complete)

    def getComputeLatency(self) -> Latency:
        """(least, greatest, mean) seconds of computing."""
        ticks = self._ticks or Ticks()
        return ticks.latency(ticks.input_complete, ticks.output)

    def getIpuHostLatency(self) -> Latency:
        """(least, greatest, mean) seconds of moving outputs to the host."""
        ticks = self._ticks or Ticks()
        return ticks.latency(ticks.output, ticks.output_complete)

    def cycleCount(self) -> int:
        """Device cycles; there is no device here, so it always raises, as on a simulator."""
        if not self._options.log_cycle_count:
            raise createPoptorchError(
                "Cycle count logging is disabled."
                " Please set option logCycleCount to True to enable."
            )
        if self._ticks is None:
            raise createPoptorchError(
                "Please run the model at least once before obtaining cycle count."
            )
        raise createPoptorchError("Cycle count logging is only supported on actual IPU hardware.")
