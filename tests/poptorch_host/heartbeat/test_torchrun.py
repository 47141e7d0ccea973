"""Faults of ranks that torchrun started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch._C._distributed_c10d", reason="torch without torch.distributed")


from tests.poptorch_host.heartbeat.forked_ranks import BEGIN, ROOT


def test_torchrun_restarts_after_a_kill_and_ends_with_the_error(tmp_path: Path) -> None:
    """The second attempt begins with a clean store; its error is torchrun's root cause."""
    program = tmp_path / "program.py"
    program.write_text(
        BEGIN
        + """
meet()
for step in range(100):
    if rank == 1 and attempt == "0" and step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    work()
os.write(1, f"finished attempt {attempt};".encode())  # whole: three ranks share the pipe
arrive("finished")
if rank == 2:
    raise ValueError("picture 7 is broken")
time.sleep(60)
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=3", "--max-restarts=1", "--monitor-interval=0.1", str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("finished attempt 1") == 3
    ours = [line for line in done.stderr.splitlines() if "poptorch_host: rank" in line]
    assert len(ours) == 2, done.stderr
    assert "rank 1 (stage 2 of 3) was killed" in ours[0]
    assert "rank 2 (stage 3 of 3) failed: ValueError: picture 7 is broken" in ours[1]
    root = done.stderr.partition("Root Cause")[2]
    assert "rank      : 2 " in root
    assert "ValueError: picture 7 is broken" in root
