"""The benchmark of whole detectors runs, agrees with its peer and reports what others read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def benchmark(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/inference.py", *words],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_inference_benchmark_prints_ratios_and_nothing_else(repository: Path) -> None:
    pytest.importorskip("effdet", reason="the peer")
    done = benchmark(repository, "d0", "--rounds", "1", "--peers", "effdet", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["model"] == "efficientdet-d0"
    assert set(report["ratios"]) == {"effdet"}
    times = report["milliseconds"]
    assert report["ratios"]["effdet"] == pytest.approx(times["effdet"] / times["ours"])


def test_an_unknown_peer_is_answered_with_those_there_are(repository: Path) -> None:
    done = benchmark(repository, "d0", "--peers", "yolo")
    assert done.returncode == 2
    assert "no peer 'yolo'; peers: effdet, ssdlite, fasterrcnn" in done.stderr
