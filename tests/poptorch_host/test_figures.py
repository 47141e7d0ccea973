"""Ticks, latencies, cycles and compilation time of an executor (2.13)."""

from __future__ import annotations

import datetime
from typing import Callable

import pytest
import torch
from torch import nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.13: figures -----------------------------------------------------------------------------


def test_perf_counters_are_in_order() -> None:
    executor = poptorch.inferenceModel(nn.ReLU(), options(deviceIterations=3))
    names = ("input", "input_complete", "output", "output_complete")
    assert executor.getPerfCounters() == {name: [[]] for name in names}
    assert executor.getLatency() == (0.0, 0.0, 0.0)
    executor(torch.ones(3))
    counters = executor.getPerfCounters()
    assert [len(counters[name][0]) for name in names] == [3, 3, 3, 3]
    for ticks in zip(*(counters[name][0] for name in names)):
        assert list(ticks) == sorted(ticks)
    least, greatest, mean = executor.getLatency()
    assert 0 < least <= mean <= greatest
    parts = [executor.getHostIpuLatency, executor.getComputeLatency, executor.getIpuHostLatency]
    assert sum(part()[2] for part in parts) == pytest.approx(mean)


def test_final_mode_times_one_output() -> None:
    final = options(deviceIterations=4).outputMode(poptorch.OutputMode.Final)
    executor = poptorch.inferenceModel(nn.ReLU(), final)
    executor(torch.ones(4))
    counters = executor.getPerfCounters()
    assert len(counters["input"][0]) == 4
    assert len(counters["output"][0]) == 1
    span = counters["output_complete"][0][0] - counters["input"][0][0]
    assert executor.getLatency() == (span, span, span)


def test_synthetic_data_gives_zeros_and_no_latency() -> None:
    synthetic = options(deviceIterations=2).enableSyntheticData(True)
    executor = poptorch.inferenceModel(nn.Linear(3, 4), synthetic)
    assert torch.equal(executor(torch.rand(6, 3)), torch.zeros(6, 4))
    assert executor.getLatency() == (0.0, 0.0, 0.0)


def test_cycles_are_for_hardware() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Cycle count logging is disabled"):
        executor.cycleCount()
    counting = poptorch.inferenceModel(nn.ReLU(), poptorch.Options().logCycleCount(True))
    with pytest.raises(poptorch.Error, match="at least once before obtaining cycle count"):
        counting.cycleCount()
    counting(torch.ones(1))
    with pytest.raises(poptorch.Error, match="only supported on actual IPU hardware"):
        counting.cycleCount()


def test_compilation_time_needs_a_compilation_and_the_progress_bar() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Please compile the model"):
        executor.compilationTime()
    executor.compile(torch.ones(1))
    assert executor.compilationTime() > datetime.timedelta(0)
    silent = poptorch.Options().showCompilationProgressBar(False)
    executor = poptorch.inferenceModel(nn.ReLU(), silent)
    executor.compile(torch.ones(1))
    with pytest.raises(poptorch.Error, match="Please set showCompilationProgressBar"):
        executor.compilationTime()
