"""Fixtures that every test may use."""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this process and its children make temporary files; it goes with the session.

    torchrun keeps its logs there, and a killed process what it would have removed at its end. The
    path is short, since sockets are made below it and theirs have at most 107 characters; pytest's
    own folders stay where they are.
    """
    tmp_path_factory.getbasetemp()
    folder = tempfile.mkdtemp(prefix="tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # after multiprocessing has removed its own folder in it (-100), which must exist then
    multiprocessing.util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=-200)
    return Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DETECTORS_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set DETECTORS_TEST_DATA")
    return folder


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the test works in, with nothing in it; downloads would go below it, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def torchrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program with its arguments on N ranks: what they wrote, and torchrun's code."""
    return _torchrun


def _torchrun(
    ranks: int, program: Path, *arguments: str, seconds: float = 150
) -> subprocess.CompletedProcess[str]:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POPTORCH_HOST_")}
    process = subprocess.Popen(
        [sys.executable, *words, str(program), *arguments],
        env={**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(words, process.returncode, output)
