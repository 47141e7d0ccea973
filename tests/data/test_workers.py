"""A loader's process outlives what is sent to all processes of a run, and can be ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

from torch.utils.data import DataLoader

from data.workers import leave_signals


def test_ctrl_c_and_one_sigterm_are_left_to_the_main_process() -> None:
    loader: Any = iter(DataLoader(range(40), num_workers=1, worker_init_fn=leave_signals))  # type: ignore[arg-type]
    next(loader)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(loader._workers[0].pid, number)
    assert len(list(loader)) == 39


def told_twice() -> None:
    leave_signals(0)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)


def test_the_second_sigterm_ends_it() -> None:
    worker = multiprocessing.get_context("fork").Process(target=told_twice)
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGTERM
