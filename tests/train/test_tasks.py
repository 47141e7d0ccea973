"""`train.py task=throughput` and `task=check`, which write nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.small_runs import Train

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def test_throughput_ends_and_writes_nothing(tiny: Train, tmp_path: Path) -> None:
    result = tiny("task=throughput", "trainer.max_steps=4", "micro_batch_size=2")
    assert result.code == 0, result.err
    assert re.search(r"samples/s +p50 +p90 +p99\nms per step +\d", result.out)
    assert "one batch of 2 repeated" in result.out
    assert "2 calls timed" in result.out
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_the_data_is_and_whether_it_can_be_learned(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.commands.train.check.STEPS", 25)
    monkeypatch.setattr("detectors.commands.train.check.SECONDS", 3600.0)  # of a busy machine
    result = tiny("task=check")
    assert result.code == 0, result.err
    assert "data: sound" in result.out
    assert re.search(r"loss \d\.\d\d -> \d\.\d\d in 25 steps: can learn", result.out)
    assert re.search(r"estimate: [\d:]+ for \d+ steps at", result.out)
    assert list(tmp_path.iterdir()) == []
