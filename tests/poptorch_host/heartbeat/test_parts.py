"""The parts of the heartbeat: its settings, processes as they are seen, consequences."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch._C._distributed_c10d", reason="torch without torch.distributed")

import torch

from poptorch_host.heartbeat import faults, heartbeat
from poptorch_host.heartbeat.processes import ELSEWHERE, GONE, STOPPED, WAITING, Process


def test_a_second_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_heart", object())
    with pytest.raises(RuntimeError, match="beats already"):
        heartbeat.start(torch._C._distributed_c10d.HashStore(), 0, 1)


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPTORCH_HOST_HEARTBEAT_LIMIT", "soon")
    with pytest.raises(ValueError, match=r"HEARTBEAT_LIMIT must be a positive number .*'soon'"):
        heartbeat.start(torch._C._distributed_c10d.HashStore(), 0, 1)


def test_a_process_is_seen_as_it_is() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        began = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        here = Process.this()
        process = Process(here.host, here.space, child.pid, began)
        assert process.state() == WAITING
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert process.state() == STOPPED
        assert Process(here.host, "another machine", child.pid, began).state() == ELSEWHERE
        assert Process(here.host, here.space, child.pid, began - 1).state() == GONE  # number reused
        child.kill()
        child.wait()
        assert process.state() == GONE


def test_errors_of_lost_connections_are_consequences() -> None:
    lost = RuntimeError("[pair.cc:525] Connection closed by peer [127.0.0.1]:1")
    wrapped = ValueError("step 7")
    wrapped.__cause__ = lost
    assert faults.is_consequence(lost)
    assert faults.is_consequence(wrapped)
    assert not faults.is_consequence(RuntimeError("shape mismatch"))
    assert not faults.is_consequence(BrokenPipeError())
