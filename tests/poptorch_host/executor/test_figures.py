"""Ticks, latencies, cycles and compilation time of an executor (2.13)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch


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


@pytest.mark.parametrize(
    ("mode", "period", "returned"),
    [("All", None, 12), ("Final", None, 2), ("Sum", None, 2), ("EveryN", 3, 4)],
)
def test_counters_have_an_entry_per_micro_batch_and_a_list_per_tensor(
    mode: str, period: Any, returned: int
) -> None:
    # 2.13: inputs DI * GA * R; outputs all, R, or all over n
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, y: Tensor, scale: float) -> Any:
            loss = poptorch.identity_loss((x + y) * self.weight * scale, "sum")
            return loss, {"x": x, "y": (y, None)}

    chosen = poptorch.Options().deviceIterations(2).replicationFactor(2)
    chosen.outputMode(poptorch.OutputMode[mode], period).Training.gradientAccumulation(3)
    executor = poptorch.trainingModel(Adds(), chosen)
    executor(torch.ones(12), torch.ones(12), 2.0)
    counters = executor.getPerfCounters()
    lengths = {name: [len(ticks) for ticks in lists] for name, lists in counters.items()}
    assert lengths == {
        "input": [12, 12],
        "input_complete": [12, 12],
        "output": [returned] * 3,
        "output_complete": [returned] * 3,
    }
    first, last = counters["input"][0][0], counters["output_complete"][0][-1]
    assert first <= counters["input_complete"][0][0] <= counters["output"][0][0] <= last
    least, greatest, mean = executor.getLatency()
    assert 0 < least <= mean <= greatest <= last - first


def test_figures_are_those_of_the_latest_call() -> None:
    # Trap 15
    executor = poptorch.inferenceModel(nn.ReLU(), options(deviceIterations=2))
    executor.compile(torch.ones(2))
    assert executor.getLatency() == (0.0, 0.0, 0.0)
    executor(torch.ones(2))
    first = executor.getPerfCounters()
    executor(torch.ones(2))
    second = executor.getPerfCounters()
    assert len(second["input"][0]) == 2
    assert second["input"][0][0] > first["output_complete"][0][-1]
    executor.destroy()
    assert executor.getPerfCounters()["input"] == [[]]
