"""1.8: the process of an asynchronous loader never outlives its use, and never hangs a program."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Tuple

import pytest

import poptorch_host as poptorch
from tests.poptorch_host.loader.asynchronous import Numbers


def gone(pid: int, patience: float = 0) -> bool:
    """Whether no process has that number, given up after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)


def start(caplog: pytest.LogCaptureFixture) -> Tuple[poptorch.AsynchronousDataAccessor, int]:
    """An accessor, and its process as the debug log names it (1.8)."""
    caplog.set_level("DEBUG", logger="poptorch::python")
    accessor = poptorch.AsynchronousDataAccessor(Numbers(100))
    pids = re.findall(r"AsynchronousDataAccessor worker process: (\d+)", caplog.text)
    return accessor, int(pids[-1])


def test_terminate_ends_the_process_once(caplog: pytest.LogCaptureFixture) -> None:
    accessor, pid = start(caplog)
    assert not gone(pid)
    accessor.terminate()
    assert gone(pid)
    accessor.terminate()
    with pytest.raises(AssertionError, match="was terminated"):
        next(accessor)


def test_forgetting_the_accessor_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    accessor, pid = start(caplog)
    next(iter(accessor))
    del accessor
    gc.collect()
    assert gone(pid)


def test_forgetting_the_loader_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="poptorch::python")
    mode = poptorch.DataLoaderMode.Async
    loader = poptorch.DataLoader(poptorch.Options(), Numbers(4), mode=mode)
    pid = int(re.findall(r"worker process: (\d+)", caplog.text)[-1])
    gc.disable()
    try:
        del loader  # no collection needed: nothing in it is circular
        assert gone(pid)
    finally:
        gc.enable()


def test_a_killed_process_is_an_error_and_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    accessor, pid = start(caplog)
    elements = iter(accessor)
    next(elements)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(AssertionError, match="An error occurred in the data fetcher"):
        list(iter(lambda: next(elements, None), None))  # a few elements lie in the ring
    accessor.terminate()


PROGRAM = """
import os, signal, sys
import torch
import poptorch_host as poptorch

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return torch.tensor(index)

def main(how, strategy):
    poptorch.setLogLevel("DEBUG")
    loader = poptorch.DataLoader(
        poptorch.Options(), Numbers(), batch_size=2, num_workers=1,
        mode=poptorch.DataLoaderMode.Async,
        async_options={"sharing_strategy": poptorch.SharingStrategy[strategy]},
    )
    batches = iter(loader)
    print(next(batches).tolist(), flush=True)
    if how == "raise":
        raise RuntimeError("of the program")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "interrupt":  # Ctrl-C reaches every process of a terminal; a shell's jobs ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.killpg(os.getpgid(0), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            print([next(batches).tolist() for _ in range(3)], flush=True)
            raise
    if how == "keep":
        global kept
        kept = loader, batches

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("how", "strategy", "status"),
    [
        ("keep", "ForkServer", 0),
        ("keep", "Fork", 0),
        ("raise", "SharedMemory", 1),
        ("interrupt", "Fork", -signal.SIGINT),
        ("kill", "ForkServer", -signal.SIGKILL),
        ("kill", "Fork", -signal.SIGKILL),
    ],
)
def test_programs_end_without_waiting_and_leave_nothing(
    repository: Path, tmp_path: Path, how: str, strategy: str, status: int
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py", how, strategy],
        cwd=str(tmp_path),
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[0, 1]"
    if how == "interrupt":
        # The process stays for whoever handles the interrupt, and prints nothing of its own.
        assert lines[1] == "[[2, 3], [4, 5], [6, 7]]"
    assert done.stderr.count("Traceback") == (how in ("raise", "interrupt"))
    (pid,) = re.findall(r"worker process: (\d+)", done.stderr)
    assert gone(int(pid), patience=60 if how == "kill" else 0)
