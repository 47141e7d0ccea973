"""The benchmark of the operators runs and reports what others read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_ops_benchmark_prints_ratios_as_json(repository: Path) -> None:
    pytest.importorskip("torchvision", reason="the peer of nms")
    done = subprocess.run(
        [sys.executable, "benchmarks/ops.py", "--rounds", "1", "--only", "D0", "--json", "-"],
        cwd=repository,
        env={"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["ratios"]) == set(report["milliseconds"])
    assert len(report["ratios"]) == 3
    for name, ratio in report["ratios"].items():
        times = report["milliseconds"][name]
        assert ratio == pytest.approx(times["peer"] / times["poplar_ops"])
